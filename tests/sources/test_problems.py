"""Problems of the user's own: splits, draws, counts, conversations, and mistakes told before anything runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.ledger import FILE, Ledger
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.pipeline.recipe import read_source
from thinkling.sources.problems import ProblemsSource
from thinkling.stages.training.left_out import LeftOut
from thinkling.tasks.problem import problem_id
from thinkling.verify.registry import verify_many
from thinkling.verify.verdict import Outcome

SUMS = [
    {
        "question": f"What is {a} + {b}?",
        "answer": f"{a}+{b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}",
        "kind": "ab"[b % 2],
    }
    for a in range(20)
    for b in range(5)
]  # fmt: skip


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def source(**fields: Any) -> ProblemsSource:
    found = read_source("mine", {"type": "problems", "preset": "gsm8k", **fields})
    assert isinstance(found, ProblemsSource)
    return found.bind("mine", {})


def ids(problems: list[Any]) -> list[str]:
    return [problem.id for problem in problems]


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return write(tmp_path / "sums.jsonl", SUMS)


def test_a_problem_is_asked_as_the_fields_say(sums: str) -> None:
    mine = source(path=sums, system="Be brief.", tools=["calculator"], announce_tools=False, verifier="exact")
    problem = mine.problems("train")[0]
    assert (problem.verifier, problem.system, problem.tools) == ("exact", "Be brief.", ("calculator",))
    assert not problem.announce_tools
    assert problem.question == problem.bare or not problem.bare, "exact adds no instruction"
    problem = source(path=sums, template="{kind}: {question}\n\\boxed{}").problems("train")[0]
    assert re.fullmatch(r"[ab]: What is \d+ \+ \d\?\n\\boxed\{\}", problem.question)
    assert problem.bare == problem.question.partition(": ")[2].partition("\n")[0]
    assert problem.family == "gsm8k"
    assert source(path=sums).problems("train")[0].question.endswith("?\nPut the final answer in \\boxed{}.")


def test_the_hash_splits_as_everywhere_and_whatever_the_template_is(sums: str) -> None:
    plain, other = source(path=sums), source(path=sums, template="{question} Now!")
    train, heldout = plain.problems("train"), plain.problems("heldout")
    assert len(train) + len(heldout) == 100
    assert 3 < len(heldout) < 20
    for row in SUMS:
        digits = problem_id("gsm8k", str(row["question"]))
        assert (digits in ids(heldout)) == (int(digits, 16) < 0.1 * 16**16)
    assert ids(other.problems("heldout")) == ids(heldout)
    assert len(source(path=sums, heldout_fraction=0.5).problems("heldout")) > 35
    assert len(source(path=sums, heldout_fraction=1).problems("heldout")) == 100


def test_held_out_problems_do_not_depend_on_n_and_seed(sums: str) -> None:
    mine = source(path=sums)
    assert ids(mine.problems("heldout", 3, seed=1)) == ids(mine.problems("heldout", None, seed=2))
    some = source(path=sums, heldout_limit=3)
    assert len(some.problems("heldout")) == 3
    assert set(ids(some.problems("heldout"))) < set(ids(mine.problems("heldout")))


def test_a_held_out_question_is_never_in_train(tmp_path: Path, sums: str) -> None:
    spaced = [{**SUMS[0], "question": " What is  0 + 0?"}]
    test = write(tmp_path / "test.jsonl", [*SUMS[:10], *spaced, {"question": "New?", "answer": "#### 1"}])
    mine = source(path=sums, heldout_paths=[test], fields={"family": "kind"})
    mine.report_to(ledger := Ledger())
    train, heldout = mine.problems("train"), mine.problems("heldout")
    assert (len(train), len(heldout)) == (90, 11)
    assert not {p.bare for p in train} & {p.bare for p in heldout}
    assert ledger.counts() == {"mine": {"in": 112, "kept": 101, "rejected": {"duplicate": 1, "held out": 10}}}


def test_held_out_by_a_field_and_by_a_split(tmp_path: Path, sums: str) -> None:
    mine = source(path=sums, heldout_field="kind", heldout_values=["b"])
    assert (len(mine.problems("train")), len(mine.problems("heldout"))) == (60, 40)
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", SUMS[:30])
    write(tmp_path / "set" / "test.jsonl", SUMS[25:40])
    mine = source(path=str(tmp_path / "set"), split="train", heldout_split="test")
    assert (len(mine.problems("train")), len(mine.problems("heldout"))) == (25, 15)
    assert len(mine.digests()) == 3, "both files, and the version of the reader"


def test_draws_are_even_over_families_as_far_as_these_go(sums: str) -> None:
    mine = source(path=sums, fields={"family": "kind"}, heldout_field="kind", heldout_values=["none"])
    with pytest.raises(UserError, match=r"no held-out|0 held-out problems"):
        mine.check("problems", "heldout")
    some = mine.problems("train", 20, seed=1)
    assert Counter(p.family for p in some) == {"a": 10, "b": 10}
    assert Counter(p.family for p in mine.problems("train", 95, seed=1)) == {"b": 40, "a": 55}
    assert {p.family for p in mine.problems("train", 5, families=["b"])} == {"b"}
    assert ids(some) == ids(mine.problems("train", 20, seed=1)) != ids(mine.problems("train", 20, seed=2))
    assert ids(mine.problems("train")) == [problem_id(str(r["kind"]), str(r["question"])) for r in SUMS]
    limited = source(path=sums, limit=30)
    assert len(limited.problems("train")) == 30
    assert len(set(ids(limited.problems("train", 30, seed=5)))) == 30
    with pytest.raises(UserError, match="the source has 30 training problems, but 31 were requested"):
        limited.problems("train", 31)
    with pytest.raises(UserError, match="no training problems in the family 'c'; available families: a, b"):
        mine.problems("train", 1, families=["c"])


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 5), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_any_draw_has_n_distinct_problems(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, sizes: list[int]
) -> None:
    rows = [
        {"question": f"{family}-{i}?", "answer": "1", "family": str(family)}
        for family, size in enumerate(sizes)
        for i in range(size)
    ]
    path = write(tmp_path_factory.mktemp("draw") / "a.jsonl", rows)
    mine = source(path=path, preset=None, fields={"family": "family"}, heldout_fraction=0)
    if n > len(rows):
        with pytest.raises(UserError, match="were requested"):
            mine.problems("train", n, seed)
        return
    found = mine.problems("train", n, seed)
    assert len(set(ids(found))) == n
    counts = Counter(p.family for p in found)
    for family, size in enumerate(sizes):
        assert counts[str(family)] == size or counts[str(family)] >= max(counts.values()) - 1


def test_every_record_is_kept_or_rejected_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        SUMS[0],
        SUMS[1],
        SUMS[0],
        {**SUMS[1], "answer": "#### 77"},
        {"question": "x"},
        {**SUMS[2], "question": "?!"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    mine = source(path=str(path), heldout_fraction=0)
    mine.report_to(ledger := Ledger(tmp_path / FILE))
    mine.problems("train", 1)
    mine.problems("train", 2)
    assert ledger.counts()["mine"] == {
        "in": 7,
        "kept": 2,
        "rejected": {
            "duplicate": 1,
            "duplicate with another answer": 1,
            "no answer": 1,
            "not JSON": 1,
            "question has no letter or digit": 1,
        },
    }
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert {line["where"].rpartition(":")[2]: line["reason"] for line in lines}["7"] == "not JSON"
    mine.report_to(second := Ledger())
    mine.problems("train")
    assert second.counts() == ledger.counts(), "another stage counts again, though the file is read once"


def test_a_changed_file_is_read_again(sums: str) -> None:
    mine = source(path=sums)
    assert len(mine.problems("train") + mine.problems("heldout")) == 100
    write(Path(sums), SUMS[:50])
    assert len(mine.problems("train") + mine.problems("heldout")) == 50


def test_solutions_become_conversations(sums: str) -> None:
    mine = source(path=sums, system="Be brief.")
    found = list(mine.conversations(10, seed=0))
    assert len(found) == 10
    problems = {p.id: p for p in mine.problems("train")}
    for one in found:
        problem = problems[one.problem_id or ""]
        assert one.messages[:2] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": problem.question},
        ]
        assert one.messages[2]["reasoning_content"] == problem.reasoning
        assert one.messages[2]["content"] == f"The answer is \\boxed{{{problem.answer}}}."
        assert one.tools == ()
        assert one.source == "mine/gsm8k"
    other = next(source(path=sums, answer_template="#### {answer}").conversations(1, 0))
    assert other.messages[-1]["content"].startswith("#### ")


def test_calculations_become_calls(sums: str) -> None:
    mine = source(path=sums, calculator_calls=True)
    (one,) = mine.conversations(1, 0)
    assert [message["role"] for message in one.messages] == ["user", "assistant", "tool", "assistant"]
    call = one.messages[1]["tool_calls"][0]["function"]
    assert call["name"] == "calculator"
    assert one.messages[1]["content"] == ""
    assert one.messages[1]["reasoning_content"] == call["arguments"]["expression"] + " ="
    assert one.messages[2]["content"] == one.messages[3]["reasoning_content"]
    assert [tool["function"]["name"] for tool in one.tools] == ["calculator"]
    assert mine.problems("train")[0].tools == ("calculator",)
    assert source(path=sums, calculator_calls=True, announce_tools=False).problems("train")[0].tools == ("calculator",)
    (quiet,) = source(path=sums, calculator_calls=True, announce_tools=False).conversations(1, 0)
    assert quiet.tools == ()


def test_problems_without_a_solution_make_no_conversation(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n, "why": "so" if n % 2 else ""} for n in range(10)]
    path = write(tmp_path / "a.jsonl", rows)
    mine = source(path=path, preset=None, fields={"solution": "why"}, heldout_fraction=0)
    mine.report_to(ledger := Ledger())
    assert len(list(mine.conversations(None, 0))) == 5
    assert ledger.counts()["mine"] == {"in": 10, "kept": 5, "rejected": {"no solution": 5}}
    with pytest.raises(
        UserError, match="the source has 5 training problems with a known solution, but 6 were requested"
    ):
        mine.check("conversations", n=6)
    none = source(path=path, preset=None, fields={"answer": "answer"}, heldout_fraction=0)
    with pytest.raises(
        UserError, match=r"0 training problems .* solution; set fields\.solution to the key of the solutions"
    ):
        none.check("conversations")


def test_a_program_is_its_own_solution(tmp_path: Path) -> None:
    row = {"text": "Add.", "code": "def f(a): return a", "test_list": ["assert f(1) == 1"]}
    mine = source(path=write(tmp_path / "a.jsonl", [row]), preset="mbpp", heldout_fraction=0)
    (one,) = mine.conversations(None, 0)
    assert one.messages[-1] == {"role": "assistant", "content": "```python\ndef f(a): return a\n```"}
    assert mine.verifiers() == {"program"}


def test_an_id_of_the_record(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n, "uid": f"u{n // 2}"} for n in range(4)]
    mine = source(path=write(tmp_path / "a.jsonl", rows), preset=None, fields={"id": "uid"}, heldout_fraction=0)
    assert ids(mine.problems("train")) == [problem_id("sources.mine", name) for name in ("u0", "u1")]
    assert mine.summary() == (
        "2 training problems, 0 held out, verifier maths; 2 of 4 records rejected (an id given twice 2)"
    )


def test_equal_ids_of_two_sources_are_two_problems(tmp_path: Path) -> None:
    """What is evaluated of one source, and its answers, are not taken for those of the other."""
    row = {"question": "one?", "answer": 1, "uid": "0"}
    path = write(tmp_path / "a.jsonl", [row])
    fields = {"type": "problems", "path": path, "fields": {"id": "uid"}, "heldout_fraction": 0}
    asked = [read_source(name, fields).bind(name, {}).problems("train")[0] for name in ("a", "b")]
    assert asked[0].id != asked[1].id
    left_out = LeftOut({"mine": asked[:1]}, 0.0)
    assert left_out.without(asked) == asked[1:]


def test_problems_that_make_no_conversation_are_counted_after_problems_were_asked_for(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n, "why": "so" if n % 2 else ""} for n in range(10)]
    path = write(tmp_path / "a.jsonl", [*rows, rows[1]])
    wanted = {"in": 11, "kept": 5, "rejected": {"duplicate": 1, "no solution": 5}}
    for first in (True, False):
        mine = source(path=path, preset=None, fields={"solution": "why"}, heldout_fraction=0)
        mine.report_to(ledger := Ledger())
        if first:
            mine.problems("train")
        assert len(list(mine.conversations(None, 0))) == len(list(mine.conversations(None, 0))) == 5
        mine.problems("train")
        assert ledger.counts()["mine"] == wanted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "gsm9k"}, "preset: unknown preset 'gsm9k'; use one of gsm8k"),
        ({"preset": None}, "preset: not set; choose one of gsm8k, math"),
        (
            {"preset": None, "fields": {"query": "q"}},
            "fields.query: unknown part of a problem; use one of question, answer",
        ),
        ({"verifier": "sympy"}, "verifier: unknown verifier 'sympy'; use one of exact, maths"),
        ({"tools": ["browser"]}, "tools: unknown tool 'browser'; use one of calculator"),
        ({"template": "Solve this."}, "template: the template has no {question}"),
        ({"answer_template": "{answer} {unit}"}, "answer_template: {unit} is not a known name"),
        ({"preset": "math", "calculator_calls": True}, "calculator_calls: supported only by the preset gsm8k"),
        ({"heldout_paths": ["b"], "heldout_fraction": 0.1}, "heldout_fraction: heldout_paths already defines"),
        ({"heldout_field": "kind"}, "heldout_field: set heldout_field and heldout_values together"),
        ({"heldout_split": "test"}, "split: not set; heldout_split holds out 'test'"),
        ({"heldout_fraction": 1.5}, "heldout_fraction: "),
        ({"shuffle": True}, "shuffle: unknown key"),
    ],
)
def test_mistakes_in_the_recipe_are_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        source(**{"path": "a.jsonl", **fields})
    assert str(caught.value).startswith("sources.mine")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_form_is_told_with_its_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "1+1?", "completion": "2"}] * 3)
    with pytest.raises(
        UserError, match=r"no usable problem in its records.*3 of 3.*\(no answer 3\).*keys are prompt, completion"
    ):
        source(path=path).check("problems", "train")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="the source has 0 training problems"):
        source(path=str(tmp_path / "empty.jsonl")).check("problems", "train")
    with pytest.raises(UserError, match=r"a\.jsonl is used for both training and held-out problems"):
        source(path=path, heldout_paths=[path]).check("problems", "train")
    missing = source(path=write(tmp_path / "b.jsonl", SUMS), template="{question} {level}")
    with pytest.raises(UserError, match="no level, which the template names 100"):
        missing.check("problems", "train")


@pytest.mark.parametrize(
    ("fields", "counts", "rejected", "solved"),
    [
        (
            {"preset": "gsm8k", "path": "gsm8k/train.jsonl", "heldout_paths": ["gsm8k/test.jsonl"]},
            (7473, 1319),
            {},
            7473,
        ),
        (
            {"preset": "math", "path": "math/train_answers.json", "heldout_paths": ["math/math500.json"]},
            (7469, 500),
            {"duplicate": 1, "no answer, and no \\boxed one in the solution": 4},
            0,
        ),
        (
            {"preset": "aime", "path": "aime/1983_2023.json", "heldout_paths": ["aime/*.jsonl"]},
            (975, 60),
            {},
            975,
        ),
        (
            {"preset": "mbpp", "path": "mbpp/mbpp.jsonl", "heldout_paths": ["mbpp/mbpp_test.jsonl"]},
            (474, 499),
            {"duplicate with another answer": 1, "held out": 500},
            474,
        ),
    ],
)
def test_real_data(
    real_data: Path, fields: dict[str, Any], counts: tuple[int, int], rejected: dict[str, int], solved: int
) -> None:
    heldout = [f"{real_data}/{path}" for path in fields["heldout_paths"]]
    mine = source(**{**fields, "path": f"{real_data}/{fields['path']}", "heldout_paths": heldout})
    mine.report_to(ledger := Ledger())
    problems = {problem.id: problem for problem in mine.problems("train")}
    assert (len(problems), len(mine.problems("heldout"))) == counts
    assert ledger.counts()["mine"]["rejected"] == rejected
    if not solved:
        return
    conversations = list(mine.conversations(None, 0))
    assert len(conversations) == solved
    if fields["preset"] != "mbpp":
        answers = [(problems[c.problem_id or ""], Reading.of(c.messages[-1]["content"])) for c in conversations]
        assert {verdict.outcome for verdict in verify_many(answers)} == {Outcome.RIGHT}


def test_problems_whose_tests_judge_nothing_are_counted_before_a_stage_begins(tmp_path: Path) -> None:
    rows = [
        {"text": "Double.", "test_list": ["assert f(2) == 4"], "code": "def f(x): return x * 2"},
        {"text": "Print.", "test_list": ["print(f(2))"], "code": ""},
        {"text": "Tuple.", "test_list": ["assert (f(2) == 4, 'four')"], "code": ""},
        {"text": "Arrays.", "test_list": ["import numpy as np", "assert np.all(f(2) == 4)"], "code": ""},
        {"text": "Old.", "test_list": ["assert f(2) =="], "code": ""},
    ]
    mine = source(preset="mbpp", path=write(tmp_path / "programs.jsonl", rows), heldout_fraction=0)
    nothing = "unverifiable: the tests assert nothing that depends on the program"
    missing = "unverifiable: the tests import numpy, which the sandbox has not"
    python = "unverifiable: the tests are not Python"
    assert f"4 of 5 records rejected ({python} 1, {nothing} 2, {missing} 1)" in mine.summary()
    assert [problem.bare for problem in mine.problems("train")] == ["Double."]


def test_humaneval_is_judged_by_its_check_function(tmp_path: Path) -> None:
    head = 'def twice(x):\n    """Twice x."""\n'
    check = "def check(candidate):\n    assert candidate(2) == 4\n"
    rows = [{"prompt": head, "canonical_solution": "    return x * 2\n", "test": check, "entry_point": "twice"}]
    mine = source(preset="humaneval", path=write(tmp_path / "humaneval.jsonl", rows), heldout_fraction=0)
    (problem,) = mine.problems("train")
    verdicts = verify_many([(problem, Reading.of(problem.answer)), (problem, Reading.of(f"{head}    return x"))])
    if verdicts[0].outcome is Outcome.ERROR:
        pytest.skip(verdicts[0].detail)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.RIGHT, Outcome.WRONG]
