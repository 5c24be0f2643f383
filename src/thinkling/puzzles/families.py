"""The puzzle families: chains (with an anchor letter before each operand), rearrangements, and two that use a tool.

An anchor makes each step of the reasoning a unique copy from the question plus a local operation, which a model of 0.2M
parameters can learn in a minute. Values are never negative: every punctuation mark is separated by digits or letters,
so the tokenizer never joins two of them.
"""

from __future__ import annotations

import random
import re
from string import ascii_uppercase, digits

from thinkling.puzzles.family import Draft, Family, Knob, Knobs
from thinkling.puzzles.judging import JUDGE
from thinkling.puzzles.programs import PROGRAM
from thinkling.puzzles.writing import WRITE

CHAIN_STEP = re.compile(r"[A-Z][-+*]?\d=\d+")
"""A step of a chain's reasoning, as `_chain` writes it."""


def _chain(values: list[int], operators: list[str], running: list[int], anchors: str = "") -> tuple[str, str]:
    """Symbols and reasoning of a chain: `A1B+5C+9`, `B+5=6C+9=15`.

    `operators` and `running` start at the second value; `anchors` defaults to the first letters of the alphabet.
    """
    anchors = anchors or ascii_uppercase[: len(values)]
    steps = [f"{a}{o}{v}" for a, o, v in zip(anchors[1:], operators, values[1:], strict=True)]
    reasoning = "".join(f"{step}={value}" for step, value in zip(steps, running, strict=True))
    return f"{anchors[0]}{values[0]}" + "".join(steps), reasoning


def _operands(rng: random.Random, knobs: Knobs) -> list[int]:
    count = rng.randint(knobs["min_operands"], knobs["max_operands"])
    return [rng.randint(1, 9) for _ in range(count)]


def _additions(rng: random.Random, values: list[int]) -> tuple[list[str], list[int]]:
    """Random additions and subtractions, and their results, which are never negative."""
    operators, running, total = [], [], values[0]
    for value in values[1:]:
        operator = "-" if value <= total and rng.random() < 0.5 else "+"
        total += value if operator == "+" else -value
        operators.append(operator)
        running.append(total)
    return operators, running


def _draw_sum(rng: random.Random, knobs: Knobs) -> Draft:
    values = _operands(rng, knobs)
    operators, running = _additions(rng, values)
    symbols, reasoning = _chain(values, operators, running)
    return Draft(symbols, reasoning, str(running[-1]), {"operands": len(values)})


def _draw_mod(rng: random.Random, knobs: Knobs) -> Draft:
    values = _operands(rng, knobs)
    operators, running, total = [], [], values[0]
    for value in values[1:]:
        operator = rng.choice("+-*")
        total = (total + value if operator == "+" else total - value if operator == "-" else total * value) % 10
        operators.append(operator)
        running.append(total)
    symbols, reasoning = _chain(values, operators, running)
    return Draft(symbols, reasoning, str(total), {"operands": len(values)})


def _draw_maximum(rng: random.Random, knobs: Knobs) -> Draft:
    values = [rng.randint(0, 9) for _ in range(rng.randint(knobs["min_operands"], knobs["max_operands"]))]
    running = [max(values[: i + 1]) for i in range(1, len(values))]
    symbols, reasoning = _chain(values, [""] * len(running), running)
    return Draft(symbols, reasoning, str(running[-1]), {"operands": len(values)})


def _draw_sort(rng: random.Random, knobs: Knobs) -> Draft:
    symbols = rng.sample(digits, rng.randint(knobs["min_length"], knobs["max_length"]))
    ordered = sorted(symbols)
    return Draft("".join(symbols), "<".join(ordered), "".join(ordered), {"length": len(symbols)})


def _draw_reverse(rng: random.Random, knobs: Knobs) -> Draft:
    letters = rng.sample(ascii_uppercase, rng.randint(knobs["min_length"], knobs["max_length"]))
    backwards = letters[::-1]
    reasoning = "".join(f"{i}{letter}" for i, letter in enumerate(backwards, start=1))
    return Draft("".join(letters), reasoning, "".join(backwards), {"length": len(letters)})


def _draw_calc(rng: random.Random, knobs: Knobs) -> Draft:
    shortest, longest = knobs["min_digits"], knobs["max_digits"]
    size = longest if shortest == longest else rng.randint(shortest, longest)
    low, high = 10 ** (size - 1), 10**size - 1
    a, b, operator = rng.randint(low, high), rng.randint(low, high), rng.choice("+-*")
    if operator == "-" and b > a:
        a, b = b, a
    value = a + b if operator == "+" else a - b if operator == "-" else a * b
    expression = f"{a}{operator}{b}"
    return Draft(
        expression,
        expression,
        str(value),
        {"digits": size, "operator": operator},
        {"expression": expression},
    )


def _draw_product(rng: random.Random, knobs: Knobs) -> Draft:
    """Two sums, then a tool: the expression of `product A3B+5,C4D+9` is `8*13`."""
    symbols, reasoning, totals, used = [], [], [], 0
    for _ in range(2):
        values = _operands(rng, knobs)
        operators, running = _additions(rng, values)
        anchors = ascii_uppercase[used : used + len(values)]
        used += len(values)
        question, steps = _chain(values, operators, running, anchors)
        symbols.append(question)
        reasoning.append(steps)
        totals.append(running[-1])
    return Draft(
        ",".join(symbols),
        ",".join(reasoning),
        str(totals[0] * totals[1]),
        {"operands": used},
        {"expression": f"{totals[0]}*{totals[1]}"},
    )


_OPERANDS = {"min_operands": Knob(2, 2, 10), "max_operands": Knob(6, 2, 10)}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("sum", _OPERANDS, _draw_sum),
        Family("mod", _OPERANDS, _draw_mod),
        Family("sort", {"min_length": Knob(4, 2, 10), "max_length": Knob(7, 2, 10)}, _draw_sort),
        Family("reverse", {"min_length": Knob(3, 2, 9), "max_length": Knob(7, 2, 9)}, _draw_reverse),
        Family("maximum", {"min_operands": Knob(3, 2, 10), "max_operands": Knob(6, 2, 10)}, _draw_maximum),
        Family(
            "calc",
            {"min_digits": Knob(2, 1, 6), "max_digits": Knob(2, 1, 6)},
            _draw_calc,
            verifier="calculator",
            tool="calculator",
        ),
        Family(
            "product",
            {"min_operands": Knob(2, 2, 10), "max_operands": Knob(3, 2, 10)},
            _draw_product,
            verifier="calculator",
            tool="calculator",
        ),
        PROGRAM,
        WRITE,
        JUDGE,
    )
}
