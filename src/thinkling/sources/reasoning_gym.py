"""Problems that reasoning-gym generates (arXiv 2505.24760), split into train and held out by a hash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from thinkling.errors import UserError
from thinkling.sources import templates
from thinkling.sources.base import Extra, Offer, Source
from thinkling.tasks.problem import Problem, Split, problem_id
from thinkling.tasks.problem import split as split_of

if TYPE_CHECKING:
    from thinkling.sources.problem_set import Entry

VERIFIER = "reasoning-gym"
TEMPLATE = "{question}\nPut the final answer, and nothing else, between <answer> and </answer>."


class ReasoningGymSource(Source):
    """Problems of data sets of reasoning-gym (`pip install thinkling[tasks]`), judged by its own scorers."""

    type: Literal["reasoning_gym"]
    datasets: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name of a data set → its settings that differ from the defaults. Each is a family."""
    size: int = Field(default=1000, ge=1)
    """Problems generated per data set; about a tenth are held out."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator. The recipe's seed has no part in it, so that runs are scored on the same problems."""
    system: str = ""
    """System message that problems are asked under; none if empty."""
    template: str = TEMPLATE
    """The question as it is asked; `{question}` is replaced."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"problems"})
    _made: list[Entry] | None = PrivateAttr(default=None)

    def extras(self) -> list[Extra]:
        return [Extra("type", ("reasoning_gym",), "tasks")]

    @field_validator("template")
    @classmethod
    def _has_question(cls, template: str) -> str:
        templates.check(template, "question", ("question",))
        return template

    def verifiers(self) -> frozenset[str]:
        return frozenset({VERIFIER})

    def digests(self) -> dict[str, Any]:
        from importlib import metadata

        self._entries()
        return {"reasoning-gym": metadata.version("reasoning-gym")}

    def summary(self) -> str:
        splits = [split_of(entry.problem) for entry in self._entries()]
        return f"{splits.count('train')} problems to train on, {splits.count('heldout')} held out"

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        self._take(split or "train", n, families)

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """Data set after data set; each question once."""
        from thinkling.sources.problem_set import drawn

        found = self._take(split, n, families)
        return [entry.problem for entry in drawn(found, n if split == "train" else None, seed)]

    def _take(self, split: Split, n: int | None, families: Sequence[str] | None) -> list[Entry]:
        for family in families or ():
            if family not in self.datasets:
                raise UserError(f"sources.{self.name}: no data set {family!r}; it has {', '.join(self.datasets)}")
        found = [
            entry
            for entry in self._entries()
            if split_of(entry.problem) == split and (families is None or entry.problem.family in families)
        ]
        if not found or len(found) < (n or 0):
            wanted = f"; {n} are wanted" if n else ""
            raise UserError(f"sources.{self.name}: {len(found)} problems of the split {split}{wanted}; raise size")
        return found

    def _entries(self) -> list[Entry]:
        if self._made is None:
            self._made = self._generate()
        return self._made

    def _generate(self) -> list[Entry]:
        from thinkling.sources.problem_set import Entry
        from thinkling.verify.reasoning_gym import dataset

        found: dict[str, Entry] = {}
        for name, settings in self.datasets.items():
            try:
                data = dataset(name, json.dumps(settings, sort_keys=True), self.seed, self.size)
            except UserError as error:
                raise UserError(f"sources.{self.name}.datasets: {error}") from error
            for number in range(self.size):
                entry = data[number]
                question = entry["question"].strip()
                digits = problem_id(name, question)
                made = {"dataset": name, "settings": settings, "seed": self.seed, "size": self.size, "number": number}
                problem = Problem(
                    id=digits,
                    family=name,
                    question=templates.fill(self.template, {"question": question}),
                    answer=str(entry["answer"]),
                    reasoning="",
                    verifier=VERIFIER,
                    system=self.system,
                    hidden_tests=(json.dumps(made, sort_keys=True),),
                    bare=question,
                )
                found.setdefault(digits, Entry(problem))
        return list(found.values())
