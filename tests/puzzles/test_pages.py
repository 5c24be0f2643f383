"""Pages: the forms as stated, and the answer read back from each."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reading import Reading
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.pages import document, document_answer, document_prompt
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome

SUM = Problem("0", "sum", "sum A1B+5C+9D-8", "7", "B+5=6C+9=15D-8=7", "exact")
CALC = Problem(
    "1", "calc", "calc 47*83", "3901", "47*83", "calculator", ("calculator",), False, {"expression": "47*83"}
)


def test_stated_forms() -> None:
    assert document(SUM) == "sum A1B+5C+9D-8:B+5=6C+9=15D-8=7.7\n"
    assert document(SUM, with_reasoning=False) == "sum A1B+5C+9D-8=7\n"
    assert document(CALC) == (
        'calc 47*83:47*83<tool_call>\n{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call>\n'
        "<tool_response>\n3901\n</tool_response>\n.3901\n"
    )
    assert document(CALC, with_reasoning=False) == "calc 47*83=3901\n"


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.verifier != "program"])
@given(seed=st.integers(0, 2**63 - 1))
def test_the_pages_answer_is_verified_right(name: str, seed: int) -> None:
    problem = FAMILIES[name].sample(random.Random(seed))
    completion = document(problem).removeprefix(document_prompt(problem))
    assert document_answer(completion) == problem.answer
    assert verify(problem, Reading.of(document_answer(completion))).outcome is Outcome.RIGHT
    assert document_answer(completion + "sum A1") == problem.answer
    assert document_answer(completion.removesuffix("\n") + "<|endoftext|>") == problem.answer


@given(seed=st.integers(0, 2**63 - 1))
def test_the_page_of_a_program_ends_with_its_code(seed: int) -> None:
    problem = FAMILIES["program"].sample(random.Random(seed))
    completion = document(problem).removeprefix(document_prompt(problem))
    assert document_answer(completion) == problem.answer
    assert document(problem, with_reasoning=False) == f"{problem.question}={problem.answer}\n"


@pytest.mark.parametrize("completion", ["", "B+5=6", "\n.7", "47*83<tool_call>\n{}\n</tool_call>\n", "5.\n"])
def test_no_answer(completion: str) -> None:
    assert document_answer(completion) == ""
    assert verify(SUM, Reading.of(document_answer(completion))).outcome is Outcome.WRONG
