"""Published forms of problem sets: one record of each, and records that are not of the form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.sources.presets import PRESETS, preset
from thinkling.sources.presets.base import BadRecord, Found, Item
from thinkling.sources.presets.gsm8k import steps

CLIPS = {
    "question": "Ann sold 48 clips in April and half as many in May. How many in all?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nThat is 48+24 = <<48+24=72>>72 clips.\n#### 72",
}
ADD = {
    "text": "Write a function to add.\r\n",
    "code": "def add(a, b):\r\n  return a + b",
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "challenge_test_list": ["assert add(-1, 1) == 0"],
}
HEAD = 'def add(a, b):\n    """The sum."""\n'
HUMANEVAL = {
    "task_id": "X/0",
    "prompt": HEAD,
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
GPQA = {
    "Question": "Which is heaviest?",
    "Correct Answer": "lead\n",
    "Incorrect Answer 1": "tin",
    "Incorrect Answer 2": "zinc",
    "Incorrect Answer 3": "iron",
}
APPS = {
    "question": "Add two numbers.",
    "input_output": json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}),
    "solutions": json.dumps(["print(sum(map(int, input().split())))"]),
}
CODE = {
    "question_content": "Add two numbers.",
    "public_test_cases": json.dumps([{"input": "1 2", "output": "3", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "3 4", "output": "7", "testtype": "stdin"}]),
}


UNEVEN = '{"inputs": ["1"], "outputs": []}'
LETTERED = {"question": "Which?", "choices": ["B", "A"], "answer": "A"}
PICKLED = "private_test_cases is a compressed pickle, which is not read: a pickle can run code"
MESSAGES = "question has messages other than one of the user after a system message"


def read(name: str | None, record: dict[str, Any], fields: dict[str, str] | None = None, seed: int = 0) -> Item:
    form = preset(name)
    return form.read(Found(record, form.keys, fields or {}), seed)


def test_gsm8k() -> None:
    item = read("gsm8k", CLIPS)
    assert (item.question, item.answer) == (CLIPS["question"], "72")
    assert item.solution == "She sold 48/2 = 24 clips in May.\nThat is 48+24 = 72 clips."
    assert [(s.reasoning, s.expression, s.result) for s in item.steps] == [
        ("She sold 48/2 =", "48/2", "24"),
        ("24 clips in May.\nThat is 48+24 =", "48+24", "72"),
        ("72 clips.", "", ""),
    ]


@pytest.mark.parametrize(
    ("worked", "expressions"),
    [
        ("a <<5=5>>5", []),
        ("a <<10/3=3.33>>3.33", []),
        ("a <<10/4=2.5>>2.5", ["10/4"]),
        ("a <<2 x 3=6>>6", []),
        ("a <<1/0=0>>0", []),
        ("a <<2*3=7>>7", []),
        ("a <<=7>>7 <<>> <<7>>", []),
        ("a <<0.5*3=1.50>>1.50", ["0.5*3"]),
        ("no annotation", []),
    ],
)
def test_only_exact_calculations_become_calls(worked: str, expressions: list[str]) -> None:
    assert [step.expression for step in steps(worked)][:-1] == expressions
    assert "<<" not in "".join(step.reasoning for step in steps(worked))


def test_math_takes_the_answer_or_the_box_of_the_solution() -> None:
    record = {"problem": "1/4+1/4?", "solution": "It is \\boxed{\\frac{1}{2}}.", "type": "Algebra"}
    item = read("math", record, {"family": "type"})
    assert (item.question, item.answer, item.family) == ("1/4+1/4?", "\\frac{1}{2}", "Algebra")
    assert read("math", record | {"answer": "0.5"}).answer == "0.5"
    assert read("math", record).family == ""


def test_aime() -> None:
    assert read("aime", {"Problem": "?x", "Answer": 25, "Solution": "…"}).answer == "25"
    assert read("aime", {"problem": "?x", "answer": "025"}).answer == "25"


def test_mbpp_shows_the_first_test_alone() -> None:
    item = read("mbpp", ADD)
    assert item.question == "Write a function to add.\nYour code has to pass this test:\nassert add(1, 2) == 3"
    assert item.bare == "Write a function to add."
    assert item.answer == "def add(a, b):\n  return a + b"
    assert item.tests == ("assert add(1, 2) == 3",)
    assert item.hidden_tests == ("assert add(0, 0) == 0", "assert add(-1, 1) == 0")


def test_mbpp_set_up_code_runs_first_and_is_not_shown() -> None:
    item = read("mbpp", ADD | {"test_setup_code": "one = 1", "test_imports": ["import math"]})
    assert item.tests == ("import math\none = 1", "assert add(1, 2) == 3")
    assert "one" not in item.question


def test_mbpp_by_the_other_names_of_its_keys_and_with_a_line_separator() -> None:
    item = read("mbpp", {"prompt": "Add\u2028up", "test": ["assert f(1)"], "code": "f = bool"})
    assert (item.bare, item.tests, item.hidden_tests) == ("Add\u2028up", ("assert f(1)",), ())


def test_humaneval() -> None:
    item = read("humaneval", HUMANEVAL)
    assert HEAD.strip() in item.question
    assert "check" not in item.question
    assert item.hidden_tests[0].endswith("\n\ncheck(add)")
    scope: dict[str, Any] = {}
    exec(item.answer + "\n" + item.hidden_tests[0], scope)  # the record above, which is ours
    assert preset("humaneval").verifier == "program"


def test_gpqa_options_are_shuffled_by_the_seed_and_the_question_alone() -> None:
    items = [read("gpqa", GPQA, seed=seed) for seed in range(40)]
    assert {item.choices[ord(item.answer) - ord("A")] for item in items} == {"lead"}
    assert {item.answer for item in items} == set("ABCD")
    assert len({item.identity for item in items}) == 1, "the same problem in any order"
    swapped = GPQA | {"Incorrect Answer 1": "zinc", "Incorrect Answer 2": "tin"}
    assert sum(read("gpqa", swapped, seed=seed).answer == items[seed].answer for seed in range(40)) == 40
    assert items[0].question.startswith("Which is heaviest?\n\nA. ")


@pytest.mark.parametrize(
    ("record", "letter"),
    [
        ({"choices": ["x", "y", "z"], "answer": 2}, "C"),
        ({"choices": ["x", "y", "z"], "answer": "B"}, "B"),
        ({"choices": ["x", "y", "z"], "answer": "(b)"}, "B"),
        ({"choices": ["x", "y", "z"], "answer": "z"}, "C"),
        ({"options": ["x", "y"], "answer": "A", "answer_index": 0}, "A"),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, "B"),
        ({"choices": {"a": "x", "b": "y"}, "answer": "b"}, "B"),
        ({"choices": '["x", "y"]', "answer": "y"}, "B"),
        ({"A": "x", "B": "y", "C": "z", "D": "w", "answer": "D"}, "D"),
        ({"choices": [3, 4.5], "answer": 1}, "B"),
    ],
)
def test_multiple_choice_in_its_shapes(record: dict[str, Any], letter: str) -> None:
    item = read("choice", {"question": "Which?", **record})
    assert item.answer == letter
    assert item.question.startswith("Which?\n\nA. ")


def test_leetcode() -> None:
    record = {
        "query": "Add.",
        "prompt": "from typing import *",
        "entry_point": "Solution().add",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3",
        "completion": "class Solution:\n    def add(self, a, b):\n        return a + b",
    }
    item = read("leetcode", record)
    assert (item.question, item.setup, item.answer) == ("Add.", record["prompt"], record["completion"])
    assert item.hidden_tests == (f"{record['test']}\n\ncheck(Solution().add)",)
    with pytest.raises(BadRecord, match="entry_point"):
        read("leetcode", record | {"entry_point": "Solution().add)("})


def test_apps_and_livecodebench() -> None:
    item = read("apps", APPS)
    assert [json.loads(test) for test in item.hidden_tests] == [
        {"input": "1 2\n", "output": "3\n"},
        {"input": "3 4\n", "output": "7\n"},
    ]
    assert item.answer.startswith("print(")
    assert "standard input" in item.question
    called = {"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}
    item = read("apps", APPS | {"input_output": json.dumps(called), "starter_code": "def add(a, b):"})
    assert json.loads(item.hidden_tests[0]) == {"input": [1, 2], "output": 3, "function": "add"}
    assert "def add(a, b):" in item.question
    item = read("livecodebench", CODE)
    assert json.loads(item.tests[0])["output"] == "3"
    assert json.loads(item.hidden_tests[0])["output"] == "7"


def test_plain_problems_by_their_keys() -> None:
    record = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]}
    record |= {"reward_model": {"ground_truth": 2}, "meta.kind": "sum"}
    fields = {"question": "prompt", "answer": "reward_model.ground_truth", "family": "meta.kind"}
    item = read(None, record, fields)
    assert (item.question, item.system, item.answer, item.family) == ("1+1?", "Be brief.", "2", "sum")
    chosen = read(
        None, {"q": "Which?", "opts": ["x", "y"], "gold": "y"}, {"question": "q", "choices": "opts", "answer": "gold"}
    )
    assert (chosen.answer, chosen.choices) == ("B", ("x", "y"))
    tested = read(None, {"question": "Add", "unit": ["assert f()"]}, {"tests": "unit"})
    assert (tested.tests, tested.answer) == (("assert f()",), "")


@pytest.mark.parametrize(
    ("name", "record", "reason"),
    [
        ("gsm8k", CLIPS | {"answer": "72"}, "no final answer after ####"),
        ("gsm8k", CLIPS | {"answer": "It is\n#### "}, "no final answer after ####"),
        ("gsm8k", {"answer": CLIPS["answer"]}, "no question"),
        ("gsm8k", CLIPS | {"question": ["a"]}, "question is not text"),
        ("gsm8k", CLIPS | {"question": "\ud800"}, "question is not UTF-8"),
        ("math", {"problem": "?x", "solution": "It is 7."}, "no answer, and no \\boxed one in the solution"),
        ("aime", {"problem": "?x", "answer": "1000"}, "answer is not an integer from 0 to 999"),
        ("aime", {"problem": "?x", "answer": "-1"}, "answer is not an integer from 0 to 999"),
        ("mbpp", {"test_list": ["assert f()"]}, "no question"),
        ("mbpp", ADD | {"test_list": []}, "no tests"),
        ("mbpp", ADD | {"test_list": "assert f()"}, "tests is not a list of texts"),
        ("mbpp", ADD | {"challenge_test_list": 3}, "challenge_tests is not a list of texts"),
        ("humaneval", HUMANEVAL | {"entry_point": "add; import os"}, "entry_point is not a name"),
        ("gpqa", GPQA | {"Incorrect Answer 3": "tin"}, "an option is given twice"),
        ("gpqa", {"Question": "Which?", "Correct Answer": "lead"}, "no wrong_1"),
        ("choice", {"question": "Which?", "choices": ["x", "y"], "answer": "q"}, "the answer is none of the options"),
        ("choice", {"question": "Which?", "choices": ["x", "y"], "answer": 2}, "the answer is none of the options"),
        ("choice", {"question": "Which?", "choices": ["x", "y"], "answer": True}, "answer is not text"),
        ("choice", {"question": "Which?", "choices": ["x"], "answer": 0}, "no options"),
        ("choice", {"question": "Which?", "choices": "x, y", "answer": 0}, "choices is not JSON"),
        ("choice", LETTERED, "the answer is one option's letter and another's text"),
        ("apps", APPS | {"input_output": ""}, "input_output is not JSON"),
        ("apps", APPS | {"input_output": UNEVEN}, "input_output has no inputs with as many outputs"),
        ("livecodebench", CODE | {"private_test_cases": "eJxrYJmqyAABGXrR=="}, PICKLED),
        ("livecodebench", CODE | {"public_test_cases": "[1]"}, "a test has no input and output"),
        (None, {"question": "?x"}, "no answer"),
        (None, {"question": [{"role": "assistant", "content": "x"}], "answer": 1}, MESSAGES),
    ],
)
def test_records_that_are_not_of_the_form(name: str | None, record: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        read(name, record)
    assert str(caught.value) == reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "input"]), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("name", PRESETS.names())
def test_no_record_crashes_a_preset(name: str) -> None:
    form = preset(name)
    keys = [key for options in form.keys.values() for key in options]

    @given(st.dictionaries(st.sampled_from(keys), VALUES))
    def check(record: dict[str, Any]) -> None:
        try:
            item = form.read(Found(record, form.keys), 0)
        except BadRecord:
            return
        assert item.question.encode()

    check()


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(UserError, match="unknown preset 'gsm9k'; use one of gsm8k, math"):
        preset("gsm9k")
