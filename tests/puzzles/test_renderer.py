"""The prompt format that shows what a base model solves without reasoning."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from thinkling.data.chat_template import OURS
from thinkling.data.reading import Reading
from thinkling.data.tokenizer import train_bpe
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.pages import document
from thinkling.puzzles.pre_split import ISOLATE
from thinkling.puzzles.renderer import AnswerRenderer
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    rng = random.Random(0)
    return [FAMILIES["sum"].sample(rng) for _ in range(200)]


@pytest.fixture(scope="module")
def renderer(problems: list[Problem]) -> AnswerRenderer:
    return AnswerRenderer(train_bpe([document(problem) for problem in problems], 266, isolate=ISOLATE), OURS)


@dataclass(frozen=True)
class Continued:
    tokens: list[int]
    forced: tuple[bool, ...] = ()


def read(renderer: AnswerRenderer, text: str) -> Reading:
    return renderer.read(Continued([int(i) for i in renderer.tokenizer.encode(text)]))


def test_the_prompt_is_a_page_without_reasoning(renderer: AnswerRenderer, problems: list[Problem]) -> None:
    for problem in problems[:20]:
        page = document(problem, with_reasoning=False)
        assert renderer.tokenizer.decode(renderer.prompt_of(problem)) + f"{problem.answer}\n" == page


def test_the_answer_is_the_line(renderer: AnswerRenderer, problems: list[Problem]) -> None:
    problem = problems[0]
    found = read(renderer, f"{problem.answer}\nmore")
    assert (found.answer, found.reasoning, found.well_formed) == (problem.answer, "", True)
    assert verify(problem, found).outcome is Outcome.RIGHT
    assert verify(problem, read(renderer, f"{problem.answer}0\n")).outcome is Outcome.WRONG


def test_no_answer(renderer: AnswerRenderer, problems: list[Problem]) -> None:
    found = read(renderer, "\n7\n")
    assert (found.answer, found.well_formed) == (None, False)
    assert verify(problems[0], found).outcome is Outcome.WRONG
