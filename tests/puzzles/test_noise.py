"""Noise changes the stated fraction of symbols, within their alphabets, and nothing else."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.generate.calculator import evaluate
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.noise import ALPHABETS, add_noise, noisy_text
from thinkling.puzzles.pages import document


def alphabet_of(character: str) -> str:
    return next((alphabet for alphabet in ALPHABETS if character in alphabet), character)


@given(st.text(alphabet='ABZ019+-*=<.: az{}"\n', max_size=80), st.floats(0, 1), st.integers(0, 1000))
def test_fraction_and_alphabet(text: str, fraction: float, seed: int) -> None:
    out = noisy_text(text, random.Random(seed), fraction)
    assert len(out) == len(text)
    changed = [(a, b) for a, b in zip(text, out, strict=True) if a != b]
    symbols = sum(alphabet_of(c) != c for c in text)
    assert abs(len(changed) - fraction * symbols) < 1
    assert all(alphabet_of(a) == alphabet_of(b) != a for a, b in changed)


def test_fraction_is_met_on_average() -> None:
    rng = random.Random(0)
    text = "B+5=6C+9=15"
    changed = sum(a != b for _ in range(4_000) for a, b in zip(text, noisy_text(text, rng, 0.15), strict=True))
    assert changed / (4_000 * 9) == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.tool is None and f.noise is None])
def test_answer_stays_unless_asked(name: str) -> None:
    rng = random.Random(3)
    problem = FAMILIES[name].sample(rng)
    noisy = add_noise(problem, rng, 1.0)
    assert (noisy.id, noisy.question, noisy.answer) == (problem.id, problem.question, problem.answer)
    assert noisy.reasoning != problem.reasoning
    assert add_noise(problem, rng, 1.0, answer=True).answer != problem.answer


def test_tool_answers_the_noisy_call() -> None:
    rng = random.Random(4)
    for _ in range(100):
        problem = FAMILIES["calc"].sample(rng)
        noisy = add_noise(problem, rng, 0.4)
        assert sum(a != b for a, b in zip(problem.reasoning, noisy.reasoning, strict=True)) == 2
        assert noisy.call == {"expression": noisy.reasoning}
        assert noisy.answer == str(evaluate(noisy.reasoning))
        page = document(noisy)
        assert f'{{"name": "calculator", "arguments": {{"expression": "{noisy.reasoning}"}}}}' in page
        assert re.search(rf"<tool_response>\n{noisy.answer}\n</tool_response>\n\.{noisy.answer}\n$", page)


def test_a_call_of_other_symbols_than_the_reasoning_has_noise_of_its_own() -> None:
    """`product` calls the tool with the results of its chains."""
    rng = random.Random(5)
    changed = 0
    for _ in range(50):
        problem = FAMILIES["product"].sample(rng)
        noisy = add_noise(problem, rng, 0.4)
        expression = noisy.call["expression"]
        assert expression != noisy.reasoning
        assert noisy.answer == str(evaluate(expression))
        changed += expression != problem.call["expression"]
    assert changed > 25
