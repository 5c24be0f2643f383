"""Problems as conversations."""

import pytest

from thinkling.puzzles.examples import conversation, example, prompt
from thinkling.puzzles.problemset import generate
from thinkling.tasks.problem import Problem

SUM = Problem("0", "sum", "sum A1B+5", "6", "B+5=6", "exact")
CALC = Problem(
    "1", "calc", "calc 47*83", "3901", "47*83", "calculator", ("calculator",), False, {"expression": "47*83"}
)


def test_forms() -> None:
    user = {"role": "user", "content": "sum A1B+5"}
    assert prompt(SUM) == [user]
    assert conversation(SUM) == [user, {"role": "assistant", "content": "6", "reasoning_content": "B+5=6"}]
    assert conversation(SUM, with_reasoning=False) == [user, {"role": "assistant", "content": "6"}]
    function = {"name": "calculator", "arguments": {"expression": "47*83"}}
    call = {"type": "function", "function": function}
    assert conversation(CALC) == [
        {"role": "user", "content": "calc 47*83"},
        {"role": "assistant", "content": "", "reasoning_content": "47*83", "tool_calls": [call]},
        {"role": "tool", "content": "3901"},
        {"role": "assistant", "content": "3901"},
    ]
    assert conversation(CALC, with_reasoning=False)[1:] == [{"role": "assistant", "content": "3901"}]


def test_fractions() -> None:
    problems = generate({"sum": {}, "calc": {}}, "train", 2_000, seed=0)
    made = [example(p, seed=1, answer_only_fraction=0.5, noise_fraction=0.3) for p in problems]
    assert made == [example(p, seed=1, answer_only_fraction=0.5, noise_fraction=0.3) for p in problems]
    direct = [m == conversation(p, with_reasoning=False) for p, m in zip(problems, made, strict=True)]
    noisy = [not d and m != conversation(p) for d, p, m in zip(direct, problems, made, strict=True)]
    assert sum(direct) / 4_000 == pytest.approx(0.5, abs=0.03)
    # noisy reasoning of 5 symbols at 15% stays as it was in a quarter of the draws
    assert 0.22 < sum(noisy) / (4_000 - sum(direct)) < 0.31
    assert all(m[0]["content"] == p.question for p, m in zip(problems, made, strict=True))
