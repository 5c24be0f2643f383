"""A source as a user's own file is: few problems without reasoning, tools or families, conversations, and pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from thinkling.data.conversations import Conversation, PreferencePair
from thinkling.errors import UserError
from thinkling.seeds import permutation
from thinkling.sources.base import Offer, Source
from thinkling.tasks.problem import Problem, Split, problem_id


class OwnSource(Source):
    """`n` training problems and 5 held-out ones of a single family."""

    type: Literal["own"]
    n: int = 12
    preferences: tuple[Any, ...] = ()
    """What `pairs` yields."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"problems", "conversations", "pairs"})

    def verifiers(self) -> frozenset[str]:
        return frozenset({"exact"})

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        if families not in (None, ["own"]):
            raise UserError(f"sources.{self.name}: its only family is own")
        if split == "heldout":
            return [problem(1000 + i) for i in range(5)]
        if (n or 0) > self.n:
            raise UserError(f"sources.{self.name}: it has {self.n} problems, not {n}")
        chosen = permutation(self.n, seed)[:n].tolist()
        return [problem(i) for i in sorted(chosen)]

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        for asked in self.problems("train", n, seed, families):
            turns = [{"role": "user", "content": asked.question}, {"role": "assistant", "content": asked.answer}]
            yield Conversation(asked.id, turns, self.name, asked.id)

    def pairs(self, n: int | None, seed: int) -> Iterator[PreferencePair]:
        yield from self.preferences[:n]


def problem(number: int) -> Problem:
    """A bare question and its answer."""
    question = f"{number}+1="
    return Problem(problem_id("own", question), "own", question, str(number + 1), "", "exact")
