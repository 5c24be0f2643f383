"""The family `program`: a small Python function, specified by its steps and judged by tests.

`program list:Bkeep>4C+2Dmax` → `def f(A):B=[i for i in A if i>4];C=[i+2 for i in B];return max(C)`

Problems are made in reverse (docs/recipe.md, RL): a program is drawn, run on inputs, and described. A letter names the
value of each step; `A` is the argument. The meaning of a step depends on the type of its input (`+2` adds to a number,
or to each item of a list), and these types are the reasoning: `BlistClistDnumber`. Expected values come from the
evaluator below, which is independent of Python source: no program is run to make a problem.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from thinkling.puzzles.family import Draft, Family, Knob, Knobs
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem

PUBLIC_TESTS, HIDDEN_TESTS = 2, 8
TYPES = ("number", "list", "text")
"""Types of values; `kinds` of them are used. A list contains numbers, a text contains lower-case letters."""


@dataclass(frozen=True)
class Operation:
    """A step. Each `#` in the spelling and in the code is replaced by a constant, and `@` in the code by the name of
    the input."""

    spelling: str
    takes: str
    gives: str
    code: str
    run: Callable[..., Any]
    low: int = 2
    high: int = 9
    """`low` and `high` limit its constants."""


@dataclass(frozen=True)
class Step:
    """An operation with its constants."""

    operation: Operation
    constants: tuple[int, ...]

    @property
    def spelling(self) -> str:
        return _fill(self.operation.spelling, self.constants)

    def apply(self, value: Any) -> Any:
        """The step's value. Raises ValueError or IndexError if there is none, such as the largest item of an empty
        list."""
        return self.operation.run(value, *self.constants)


OPERATIONS = (
    Operation("+#", "number", "number", "@+#", lambda x, n: x + n),
    Operation("-#", "number", "number", "@-#", lambda x, n: x - n),
    Operation("*#", "number", "number", "@*#", lambda x, n: x * n),
    Operation("%#", "number", "number", "@%#", lambda x, n: x % n, low=3),
    Operation("-#if>#", "number", "number", "@-# if @># else @", lambda x, n, m: x - n if x > m else x),
    Operation("+#", "list", "list", "[i+# for i in @]", lambda x, n: [i + n for i in x]),
    Operation("*#", "list", "list", "[i*# for i in @]", lambda x, n: [i * n for i in x], high=5),
    Operation("keep>#", "list", "list", "[i for i in @ if i>#]", lambda x, n: [i for i in x if i > n], high=6),
    Operation("sort", "list", "list", "sorted(@)", sorted),
    Operation("reverse", "list", "list", "@[::-1]", lambda x: x[::-1]),
    Operation("rest", "list", "list", "@[1:]", lambda x: x[1:]),
    Operation("max", "list", "number", "max(@)", max),
    Operation("sum", "list", "number", "sum(@)", sum),
    Operation("len", "list", "number", "len(@)", len),
    Operation("*#", "text", "text", "@*#", lambda x, n: x * n, high=4),
    Operation("reverse", "text", "text", "@[::-1]", lambda x: x[::-1]),
    Operation("rest", "text", "text", "@[1:]", lambda x: x[1:]),
    Operation("len", "text", "number", "len(@)", len),
)

_BY_FORM = {(operation.spelling, operation.takes): operation for operation in OPERATIONS}
_LONGEST_LIST, _LONGEST_TEXT, _LARGEST_NUMBER = 6, 5, 20
_NAMES = ascii_uppercase
_MOST_INPUTS = 40
"""Inputs tried before a program is rejected for having too few distinct values."""


def draw_program(rng: random.Random, knobs: Knobs) -> Draft:
    """A program in which every step affects its tests, with its description."""
    known = TYPES[: knobs["kinds"]]
    wanted = rng.choice([operation for operation in OPERATIONS if operation.takes in known])
    while True:
        takes = rng.choice(known)
        steps = _draw_steps(rng, takes, rng.randint(knobs["min_steps"], knobs["max_steps"]), known)
        if all(
            step.operation is not wanted for step in steps
        ):  # sampled with equal weight, including those that are rarely usable
            continue
        question = spell(takes, steps)
        tests = _tests(takes, steps, question)
        if tests is not None:
            types = [takes, *(step.operation.gives for step in steps)]
            return Draft(
                symbols=question,
                reasoning=write_types(types[1:]),
                answer=write_code(steps, types),
                difficulty={"steps": len(steps), "takes": takes},
                tests=tests[:PUBLIC_TESTS],
                hidden_tests=tests[PUBLIC_TESTS:],
            )


def spell(takes: str, steps: list[Step]) -> str:
    """The description: `list:Bkeep>4C+2Dmax`."""
    return f"{takes}:" + "".join(f"{name}{step.spelling}" for name, step in zip(_NAMES[1:], steps, strict=False))


def write_types(types: list[str]) -> str:
    """The reasoning: the type of each step's value, `BlistClistDnumber`."""
    return "".join(f"{name}{kind}" for name, kind in zip(_NAMES[1:], types, strict=False))


def write_code(steps: list[Step], types: list[str]) -> str:
    """The function in one line. `types`: assumed types of the argument and of each step's value; a step that is
    undefined for the assumed type is written for its own."""
    body = []
    for i, (step, kind) in enumerate(zip(steps, types, strict=False)):
        operation = _BY_FORM.get((step.operation.spelling, kind), step.operation)
        code = _fill(operation.code, step.constants).replace("@", _NAMES[i])
        body.append(f"return {code}" if i == len(steps) - 1 else f"{_NAMES[i + 1]}={code}")
    return f"def f({_NAMES[0]}):" + ";".join(body)


def read_steps(question: str) -> tuple[str, list[Step]]:
    """Argument type and steps of a question written by `spell`, with or without the family word."""
    takes, _, described = question.rpartition(" ")[2].partition(":")
    kind, steps = takes, []
    for spelling in re.split("[A-Z]", described)[1:]:
        constants = tuple(int(digit) for digit in re.findall("[0-9]", spelling))
        operation = _BY_FORM[re.sub("[0-9]", "#", spelling), kind]
        steps.append(Step(operation, constants))
        kind = operation.gives
    return takes, steps


def noisy_program(problem: Problem, rng: random.Random, fraction: float) -> tuple[str, str]:
    """Reasoning and code, with `fraction` of the reasoning's types and of the code's constants replaced. The code is
    derived from the noisy reasoning, so the two are consistent."""
    takes, steps = read_steps(problem.question)
    types = [takes, *(step.operation.gives for step in steps)]
    for i in _chosen(len(steps), rng, fraction):
        types[i + 1] = rng.choice([kind for kind in TYPES if kind != types[i + 1]])
    places = [(i, k) for i, step in enumerate(steps) for k in range(len(step.constants))]
    for place in _chosen(len(places), rng, fraction):
        i, k = places[place]
        constants = list(steps[i].constants)
        constants[k] = rng.choice([digit for digit in range(10) if digit != constants[k]])
        steps[i] = Step(steps[i].operation, tuple(constants))
    return write_types(types[1:]), write_code(steps, types)


def _chosen(n: int, rng: random.Random, fraction: float) -> list[int]:
    return rng.sample(range(n), int(fraction * n + rng.random()))


def _fill(form: str, constants: tuple[int, ...]) -> str:
    for constant in constants:
        form = form.replace("#", str(constant), 1)
    return form


def _draw_steps(rng: random.Random, takes: str, n: int, known: tuple[str, ...]) -> list[Step]:
    steps, kind = [], takes
    for _ in range(n):
        operation = rng.choice([o for o in OPERATIONS if o.takes == kind and o.gives in known])
        constants = tuple(rng.randint(operation.low, operation.high) for _ in range(operation.spelling.count("#")))
        steps.append(Step(operation, constants))
        kind = operation.gives
    return steps


def _draw_input(rng: random.Random, kind: str) -> Any:
    if kind == "number":
        return rng.randint(0, _LARGEST_NUMBER)
    if kind == "list":
        return [rng.randint(0, 9) for _ in range(rng.randint(2, _LONGEST_LIST))]
    return "".join(rng.choices(ascii_lowercase, k=rng.randint(2, _LONGEST_TEXT)))


def _tests(takes: str, steps: list[Step], question: str) -> tuple[str, ...] | None:
    """Assertions on inputs that depend on the question only. None if the program is not worth asking for: it has too
    few values, returns its argument, or has a redundant step."""
    rng = random.Random(derive(0, "tests", question))
    cases: dict[str, tuple[Any, Any]] = {}
    for _ in range(_MOST_INPUTS):
        value = _draw_input(rng, takes)
        try:
            cases.setdefault(repr(value), (value, evaluate(steps, value)))
        except (ValueError, IndexError):  # no largest or first item of an empty list
            continue
        if len(cases) == PUBLIC_TESTS + HIDDEN_TESTS:
            break
    else:
        return None
    hidden = list(cases.values())[PUBLIC_TESTS:]
    if len({repr(result) for _, result in hidden}) < 3:
        return None
    shorter = [
        steps[:i] + steps[i + 1 :] for i in range(len(steps)) if steps[i].operation.takes == steps[i].operation.gives
    ]
    if any(_agree(without, hidden) for without in [[], *shorter]):
        return None
    return tuple(f"assert f({value!r}) == {result!r}" for value, result in cases.values())


def evaluate(steps: list[Step], value: Any) -> Any:
    """The program's value by our own operations. Raises ValueError or IndexError if it has none."""
    for step in steps:
        value = step.apply(value)
    return value


def _agree(steps: list[Step], cases: list[tuple[Any, Any]]) -> bool:
    try:
        return all(evaluate(steps, value) == result for value, result in cases)
    except (ValueError, IndexError):
        return False


PROGRAM = Family(
    "program",
    {"min_steps": Knob(2, 1, 8), "max_steps": Knob(3, 1, 8), "kinds": Knob(3, 1, 3)},
    draw_program,
    verifier="program",
    noise=noisy_program,
)
