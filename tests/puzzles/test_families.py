"""Every family against a second reading of its questions and reasoning."""

import ast
import random
import re
from collections.abc import Callable
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.puzzles.families import FAMILIES
from thinkling.tasks.problem import Problem, problem_id, split

SYMBOLS = re.compile(r"[A-Z0-9+*=<,-]*")


def chain_steps(problem: Problem) -> list[int]:
    """Values after each operand, by folding the question's operands from the left."""
    first, rest = re.fullmatch(r"A(\d)((?:[A-Z][-+*]?\d)+)", problem.question.split(" ")[1]).groups()
    value, steps = int(first), []
    for i, (anchor, operator, digit) in enumerate(re.findall(r"([A-Z])([-+*]?)(\d)", rest)):
        assert anchor == "BCDEFGHIJ"[i]
        if operator == "":
            value = max(value, int(digit))
        else:
            value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[operator]
        if problem.family == "mod":
            value %= 10
        steps.append(value)
    return steps


def check_chain(problem: Problem) -> None:
    steps = chain_steps(problem)
    assert all(0 <= step <= 99 for step in steps)
    assert problem.answer == str(steps[-1])
    operands = re.sub(r"^A\d", "", problem.question.split(" ")[1])
    rebuilt = re.sub(r"=\d+", "", problem.reasoning)
    assert rebuilt == operands
    assert [int(v) for v in re.findall(r"=(\d+)", problem.reasoning)] == steps
    assert problem.difficulty == {"operands": len(steps) + 1}


def check_sort(problem: Problem) -> None:
    symbols = problem.question.split(" ")[1]
    assert problem.answer == "".join(sorted(symbols))
    assert len(set(symbols)) == len(symbols) == problem.difficulty["length"]
    assert problem.reasoning.replace("<", "") == problem.answer


def check_reverse(problem: Problem) -> None:
    symbols = problem.question.split(" ")[1]
    assert problem.answer == symbols[::-1]
    assert len(set(symbols)) == len(symbols) == problem.difficulty["length"]
    pairs = re.findall(r"(\d)([A-Z])", problem.reasoning)
    assert [(int(i), letter) for i, letter in pairs] == list(enumerate(problem.answer, start=1))


def check_calc(problem: Problem) -> None:
    expression = problem.question.split(" ")[1]
    tree = ast.parse(expression, mode="eval").body
    left, right = tree.left.value, tree.right.value
    value = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(tree.op)]
    assert value >= 0
    assert problem.answer == str(value)
    assert problem.reasoning == expression
    assert problem.call == {"expression": expression}
    assert (problem.tools, problem.announce_tools) == (("calculator",), False)
    assert problem.verifier == "calculator"


def check_product(problem: Problem) -> None:
    """The chains have anchors in one alphabet; their values are multiplied by the tool."""
    used, values = 0, []
    chains = zip(problem.question.split(" ")[1].split(","), problem.reasoning.split(","), strict=True)
    for question, reasoning in chains:
        operands = re.findall(r"([A-Z])([-+]?)(\d)", question)
        value, steps = int(operands[0][2]), []
        for anchor, operator, digit in operands[1:]:
            value += int(digit) if operator == "+" else -int(digit)
            assert value >= 0
            steps.append(f"{anchor}{operator}{digit}={value}")
        assert "".join(steps) == reasoning
        assert "".join(anchor for anchor, _, _ in operands) == ascii_uppercase[used : used + len(operands)]
        used += len(operands)
        values.append(value)
    assert len(values) == 2
    assert problem.answer == str(values[0] * values[1])
    assert problem.call == {"expression": f"{values[0]}*{values[1]}"}
    assert (problem.tools, problem.announce_tools) == (("calculator",), False)
    assert problem.verifier == "calculator"
    assert problem.difficulty == {"operands": used}


CHECKS: dict[str, Callable[[Problem], None]] = {
    "sum": check_chain,
    "mod": check_chain,
    "maximum": check_chain,
    "sort": check_sort,
    "reverse": check_reverse,
    "calc": check_calc,
    "product": check_product,
}


@pytest.mark.parametrize("name", CHECKS)
@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=200)
def test_problems_are_right(name: str, seed: int) -> None:
    problem = FAMILIES[name].sample(random.Random(seed))
    word, symbols = problem.question.split(" ")
    assert word == name == problem.family
    assert SYMBOLS.fullmatch(symbols)
    assert SYMBOLS.fullmatch(problem.reasoning)
    assert not re.search(r"[^A-Z0-9]{2}", f"{symbols}:{problem.reasoning}.{problem.answer}")
    assert problem.id == problem_id(name, problem.question)
    CHECKS[name](problem)


def test_every_family_is_checked() -> None:
    """The others have test modules of their own."""
    assert set(CHECKS) == set(FAMILIES) - {"program", "write", "judge"}


def test_stated_forms() -> None:
    rng = random.Random(0)
    for _ in range(10_000):
        problem = FAMILIES["sum"].sample(rng, {"min_operands": 2, "max_operands": 2})
        if problem.question == "sum A5B+7":
            assert (problem.reasoning, problem.answer) == ("B+7=12", "12")
            return
    pytest.fail("sum A5B+7 never came")


@pytest.mark.parametrize("name", ["sum", "mod", "maximum", "sort", "reverse"])
def test_knobs_bound_the_size(name: str) -> None:
    family = FAMILIES[name]
    low, high = family.knobs
    rng = random.Random(1)
    sizes = {next(iter(family.sample(rng, {low: 3, high: 5}).difficulty.values())) for _ in range(200)}
    assert sizes == {3, 4, 5}


def test_calc_digits() -> None:
    """Both numbers have the same number of digits, drawn from the range."""
    rng = random.Random(1)
    drawn = [FAMILIES["calc"].sample(rng, {"min_digits": 2, "max_digits": 3}) for _ in range(100)]
    assert {p.difficulty["digits"] for p in drawn} == {2, 3}
    for problem in drawn:
        size = problem.difficulty["digits"]
        assert re.fullmatch(rf"\d{{{size}}}[-+*]\d{{{size}}}", problem.reasoning)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("sum", {"length": 3}, r"family sum: unknown knob 'length'"),
        ("sort", {"max_length": 11}, r"family sort: knob max_length is 11, .* from 2 to 10"),
        ("sort", {"max_length": True}, "family sort: knob max_length is True"),
        ("calc", {"min_digits": "2"}, "family calc: knob min_digits is '2'"),
        ("mod", {"min_operands": 8}, "family mod: knob min_operands is 8, above max_operands, 6"),
    ],
)
def test_bad_knobs(name: str, knobs: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FAMILIES[name].sample(random.Random(0), knobs)


def test_a_tenth_is_held_out() -> None:
    rng = random.Random(2)
    sides = [split(FAMILIES["calc"].sample(rng)) for _ in range(5_000)]
    assert 0.085 < sides.count("heldout") / len(sides) < 0.115
