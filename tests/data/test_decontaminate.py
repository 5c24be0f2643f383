"""Decontamination: what holds a held-out problem goes, and what does not stays."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.decontaminate import HeldOut, Match, decontaminated
from thinkling.data.documents import Counts, RejectedWriter
from thinkling.errors import UserError

PUZZLES = ["sum A1B+5C+9D-8", "reverse ABCD", "calc 47*83", "sort 3142"]
PROSE = "A train leaves the station at noon with ninety people, and at each of three stops half of them get off."


def test_puzzle_pages_that_hold_a_question() -> None:
    held_out = HeldOut(PUZZLES)
    for text, problem in (
        ("sum A1B+5C+9D-8:B+5=6C+9=15D-8=7.7\n", PUZZLES[0]),
        ("intro\nsum  A1B+5C+9D-8=7\n", PUZZLES[0]),  # white space is normalised
        ("say “reverse ABCD”, please", PUZZLES[1]),
        ("Reverse abcd", PUZZLES[1]),
        ("calc 47*83", PUZZLES[2]),
        ("Calc  47 \\times 83", PUZZLES[2]),
        ("x sort 3142.", PUZZLES[3]),
    ):
        assert held_out.find(text) == Match(problem, "exact")


def test_pages_that_only_resemble_a_question_stay() -> None:
    held_out = HeldOut(PUZZLES)
    for text in (
        "sum A1B+5C+9D-81:…",  # goes on with another digit
        "sum A1B+5C+9:B+5=6C+9=15.15",  # a shorter problem
        "reverse ABCDE:EDCBA",
        "unreverse ABCD",  # starts inside a word
        "calc 47 + 83",
        "calc 47 * 830",
        "assort 3142",
        "",
    ):
        assert held_out.find(text) is None, text


def test_prose_that_shares_thirteen_words() -> None:
    held_out = HeldOut([PROSE])
    words = PROSE.split()
    shared = "Once upon a time " + " ".join(words[4:17]).upper().replace(",", " -") + " and so on"
    assert held_out.find(shared) == Match(PROSE, "ngram")
    assert held_out.find("Once upon a time " + " ".join(words[4:16]) + " and so on") is None
    assert HeldOut([PROSE], ngram=12).find("Once " + " ".join(words[4:16]) + " on") == Match(PROSE, "ngram")
    short = "What is the capital of France?"
    assert HeldOut([short]).find("Quiz: what is the capital  of france? Paris") == Match(short, "exact")


def test_a_question_that_starts_with_a_sign_is_found() -> None:
    assert HeldOut(["(3+4)*2"]).find("compute (3+4)*2 now") == Match("(3+4)*2", "exact")
    with pytest.raises(UserError, match="no letter or digit"):
        HeldOut(["+++"])


def test_nothing_held_out_finds_nothing() -> None:
    assert HeldOut([]).find("anything at all") is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.from_regex(r"\A(sum|rev|q) [A-C0-2]{2,6}\Z"), min_size=1, max_size=12, unique=True),
    st.lists(st.from_regex(r"\A(sum|rev|q) [A-C0-2]{2,6}\Z"), max_size=4),
)
def test_exact_match_against_plain_search(questions: list[str], pages: list[str]) -> None:
    text = "\n".join(f"{page}:{page[-1]}" for page in pages)
    expected = {q for q in questions if q in pages}
    found = HeldOut(questions).find(text)
    assert (found is not None) == bool(expected)
    assert found is None or found.problem in expected


def test_documents_go_with_the_problem_as_detail(tmp_path: Path) -> None:
    texts = ["clean", "reverse ABCD:DCBA.DCBA", PROSE]
    documents = [
        {"id": f"d{i}", "text": text, "source": "s", "quality": "hq", "markup": True} for i, text in enumerate(texts)
    ]
    counts = Counts("decontaminate")
    with RejectedWriter(tmp_path / "rejected.parquet") as rejected:
        kept = list(decontaminated(documents, HeldOut([*PUZZLES, PROSE]), counts, rejected))
    assert kept == documents[:1]
    rows = pq.read_table(tmp_path / "rejected.parquet").to_pylist()
    assert [(row["id"], row["reason"], row["detail"]) for row in rows] == [
        ("d1", "held-out problem (exact)", "reverse ABCD"),
        ("d2", "held-out problem (ngram)", PROSE),
    ]
    assert counts.as_dict()["rejected"] == {"held-out problem (exact)": 1, "held-out problem (ngram)": 1}


def test_planted_problems_in_real_text_are_all_found(real_data: Path) -> None:
    questions = [json.loads(line)["question"] for line in (real_data / "gsm8k" / "test.jsonl").open("rb")][:300]
    pages = [json.loads(line)["text"] for line in (real_data / "corpus" / "wikitext2.jsonl").open("rb")][:60]
    held_out, rng = HeldOut(questions), random.Random(0)
    assert [held_out.find(page) for page in pages] == [None] * len(pages)
    for question in questions:
        page = rng.choice(pages)
        place = rng.randrange(len(page))
        assert held_out.find(f"{page[:place]}\n{question}\n{page[place:]}") is not None


LATEX = r"What is the smallest positive value of $x$ for which $\sin\left(2x\right) = \frac{1}{2}$, in degrees?"


def test_latex_spacing_and_case_make_no_difference() -> None:
    short = r"Compute $\dbinom{5}{3}$."
    held_out = HeldOut([LATEX, short])
    for text, problem in (
        ("Q: WHAT IS THE SMALLEST POSITIVE VALUE OF X FOR WHICH SIN(2X)=1/2, IN DEGREES?", LATEX),
        ("what  is the\nsmallest positive value of \\(x\\) for which \\(\\sin (2 x)=\\dfrac12\\), in degrees", LATEX),
        ("compute\tC: compute \\(\\binom{5}{3}\\)", short),
    ):
        match = held_out.find(f"some text before. {text} And after.")
        assert match is not None, text
        assert match.problem == problem
    assert held_out.find(r"Compute $\dbinom{5}{4}$.") is None


def test_runs_of_numbers_are_no_evidence() -> None:
    listing = "List the numbers: " + " ".join(map(str, range(1, 40)))
    assert HeldOut([listing]).find("page " + " ".join(map(str, range(5, 30)))) is None
    assert HeldOut([listing]).find(f"so {listing.upper()} now") == Match(listing, "exact")


CHINESE = (
    "小明从家出发去图书馆，每分钟走60米，走了12分钟后发现忘了带借书证，于是立刻回家去取，再"
    "用每分钟80米的速度赶到图书馆，请问他一共走了多少米？"
)
JAPANESE = (
    "たろうさんは家から図書館まで分速60メートルで歩き、12分後に貸出カードを忘れたことに気づ"
    "いてすぐに家へもどりました。全部で何メートル歩きましたか。"
)
THAI = (
    "สมชายเดินทางจากบ้านไปห้องสมุดด้วยความเร็ว60เมตรต่อนาทีเมื่อเดินไปได้12นาทีจึงนึกขึ้นได้ว่าลืมบัตรยืมหนังสือเขาจึงกลับบ้านทันทีเขาเดินทั้งหมดกี่เมตร"
)


@pytest.mark.parametrize("problem", [CHINESE, JAPANESE, THAI])
def test_a_problem_without_spaces_quoted_in_part(problem: str) -> None:
    n = len(problem)
    assert HeldOut([problem]).find("前文" + problem[: int(0.75 * n)] + "后文") == Match(problem, "ngram")
    assert HeldOut([problem]).find(problem[:12] + "天气很好" + problem[-12:]) is None


def test_a_short_problem_without_spaces_is_found_inside_a_sentence() -> None:
    short = "3加5等于几？"
    assert HeldOut([short]).find("老师问大家３加５等于几?大家都笑了") == Match(short, "exact")
    assert HeldOut([short]).find("老师问大家3加6等于几") is None


INSTRUCTIONS = [
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$ANSWER (without quotes) where $ANSWER is the answer to the problem.",
    "Think step by step and then write your final answer as a single number inside \\boxed{} at the end of the text.",
    "请一步一步地思考，并把最后的答案写在方框里面，不要写单位。",
]


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_an_instruction_shared_with_one_problem_rejects_no_document(instruction: str) -> None:
    problem = PROSE if instruction.isascii() else CHINESE
    held_out = HeldOut([f"{instruction}\n{problem}\n{instruction}"])
    assert held_out.find(f"{instruction} A train is late. {instruction} What is it?") is None
    assert held_out.find(f"text {problem} text") is not None


def test_text_that_many_problems_have_is_no_evidence_and_the_problems_are_still_found() -> None:
    rng = random.Random(4)
    frame = "In the village of Oakham, where every family keeps exactly one grey donkey for the yearly autumn race,"
    own = [" ".join(rng.sample(WORDS_OF_OUR_OWN, 16)) for _ in range(12)]
    held_out = HeldOut([f"{frame} {one}." for one in own])
    assert held_out.find(f"{frame} nobody ever lost a bet and everybody went home happy.") is None
    for one in own:
        found = held_out.find(f"Quiz: {one}")
        assert found == Match(f"{frame} {one}.", "ngram")
    assert HeldOut([f"{frame} {own[0]}."]).find(f"{frame} nobody ever lost a bet.") is not None


WORDS_OF_OUR_OWN = [
    a + b for a in ("bar", "tel", "mor", "sin", "kal", "dru") for b in ("ning", "tow", "rap", "lec", "vit", "gom")
]


def test_planted_problems_of_programs_and_formulas_are_still_found(real_data: Path) -> None:
    programs = [json.loads(line)["text"] for line in (real_data / "mbpp" / "mbpp.jsonl").open("rb")][:200]
    formulas = [row["problem"] for row in json.loads((real_data / "math" / "math500.json").read_bytes())][:200]
    for problems in (programs, formulas):
        held_out = HeldOut(problems)
        missed = [one for one in problems if held_out.find(f"Some words before it. {one} And some after.") is None]
        assert missed == []
