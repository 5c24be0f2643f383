"""Puzzle pages as a source: problems of the training split written out, some damaged, some repeated, as web text is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from thinkling.errors import UserError
from thinkling.puzzles.corruption import corrupt
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.seeds import derive
from thinkling.stages.sources import PagesSource, TasksSource
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class Page:
    """A page and the problem on it. ``key`` is the problem's id, with ``-copy`` and a number for a repetition."""

    key: str
    text: str
    damaged: bool
    problem: Problem


def pages(name: str, source: PagesSource, tasks: TasksSource, seed: int) -> Iterator[Page]:
    """``pages_per_family`` pages of each family, family after family, the repetitions of a family at its end.

    Of n pages ``duplicated`` · n repeat another one; the rest each show a problem of their own: ``corrupted`` · n with
    damaged working and answer, ``without_trace`` · n with the bare answer, all others with right working. The numbers
    are exact up to rounding. Raises UserError where the shares leave no room, or the families have too few problems.
    """
    if unknown := sorted(set(source.family_weights) - set(tasks.families)):
        raise UserError(f"sources.{name}.family_weights: {unknown[0]!r} is no family of sources.{source.tasks}")
    for family, knobs in tasks.families.items():
        n = source.pages_of(family)
        copies, damaged, bare = (round(n * s) for s in (source.duplicated, source.corrupted, source.without_trace))
        distinct = n - copies
        if damaged + bare > distinct or distinct == 0:
            raise UserError(f"sources.{name}: {n} pages of {family} are too few for its shares; ask for more")
        rng = random.Random(derive(seed, "pages", name, family))
        problems = generate({family: knobs}, "train", distinct, derive(seed, "problems", name))
        # Short problems come first where few exist, so which pages are damaged is drawn and not cut off.
        kinds = ["damaged"] * damaged + ["bare"] * bare + ["worked"] * (distinct - damaged - bare)
        rng.shuffle(kinds)
        written = [_page(p, kind, rng, source.corrupted_characters) for p, kind in zip(problems, kinds, strict=True)]
        yield from written
        for number, page in enumerate(rng.choices(written, k=copies)):
            yield Page(f"{page.key}-copy{number}", page.text, page.damaged, page.problem)


def _page(problem: Problem, kind: str, rng: random.Random, share: float) -> Page:
    if kind == "damaged":
        return Page(problem.id, document(corrupt(problem, rng, share, answer=True)), True, problem)
    return Page(problem.id, document(problem, with_trace=kind == "worked"), False, problem)
