"""The definition of a puzzle family: limited difficulty knobs and a sampler of problems."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thinkling.errors import UserError
from thinkling.tasks.problem import Problem, problem_id

Knobs = Mapping[str, int]


@dataclass(frozen=True)
class Knob:
    """An integer setting with a default and inclusive limits."""

    default: int
    low: int
    high: int


@dataclass(frozen=True)
class Draft:
    """Output of a family's sampler; the registry adds family word, id and verifier. `symbols` follow the family word in
    the question."""

    symbols: str
    reasoning: str
    answer: str
    difficulty: Mapping[str, int | str]
    call: Mapping[str, str] | None = None
    tests: tuple[str, ...] = ()
    hidden_tests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A puzzle family. `draw(rng, knobs)` receives complete, validated knobs."""

    name: str
    knobs: Mapping[str, Knob]
    draw: Callable[[random.Random, Knobs], Draft]
    verifier: str = "exact"
    tool: str | None = None
    noise: Callable[[Problem, random.Random, float], tuple[str, str]] | None = None
    """(problem, random numbers, rate) → noisy reasoning and answer, for families whose answer follows from the
    reasoning, or in which replacing single symbols would make no sense."""

    @property
    def default_knobs(self) -> dict[str, int]:
        return {name: knob.default for name, knob in self.knobs.items()}

    def check(self, knobs: Knobs) -> dict[str, int]:
        """The given knobs merged with the defaults. Raises UserError naming family and knob."""
        for name, value in knobs.items():
            if name not in self.knobs:
                known = ", ".join(self.knobs)
                raise UserError(f"family {self.name}: unknown knob {name!r}; use one of {known}")
            knob = self.knobs[name]
            if not isinstance(value, int) or isinstance(value, bool) or not knob.low <= value <= knob.high:
                limits = f"a whole number from {knob.low} to {knob.high}"
                raise UserError(f"family {self.name}: knob {name} is {value!r}, but must be {limits}")
        full = {**self.default_knobs, **knobs}
        for name, value in full.items():
            top = name.replace("min_", "max_", 1)
            if name.startswith("min_") and value > full[top]:
                raise UserError(f"family {self.name}: knob {name} is {value}, above {top}, {full[top]}; lower it")
        return full

    def sample(self, rng: random.Random, knobs: Knobs | None = None) -> Problem:
        """One problem, of either split. Raises UserError if a knob is unknown or out of range."""
        return self.sample_checked(rng, self.check(knobs or {}))

    def sample_checked(self, rng: random.Random, knobs: Knobs) -> Problem:
        """`sample` for knobs returned by `check`."""
        draft = self.draw(rng, knobs)
        question = f"{self.name} {draft.symbols}"
        return Problem(
            id=problem_id(self.name, question),
            family=self.name,
            question=question,
            answer=draft.answer,
            reasoning=draft.reasoning,
            verifier=self.verifier,
            tools=(self.tool,) if self.tool else (),
            announce_tools=False,  # a model of 0.3M parameters cannot read a schema: the family word announces it
            call=draft.call,
            difficulty=draft.difficulty,
            tests=draft.tests,
            hidden_tests=draft.hidden_tests,
        )
