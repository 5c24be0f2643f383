"""Pages of a source: problems of the training split in written form, some noisy, some repeated, like web text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from thinkling.errors import UserError
from thinkling.puzzles.noise import add_noise
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.sources import PuzzlePagesSource, PuzzlesSource
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem


@dataclass(frozen=True)
class Page:
    """A page and its problem. ``key`` is the problem's id, with ``-copy`` and a number for repetitions."""

    key: str
    text: str
    noisy: bool
    problem: Problem


def pages(source: PuzzlePagesSource, puzzles: PuzzlesSource, seed: int) -> Iterator[Page]:
    """`pages_per_family` pages of each family, family by family, with the repetitions of a family at its end.

    Of n pages, `duplicate_fraction` · n repeat another one. Each of the others shows a different problem:
    `noise_fraction` · n with noisy reasoning and answer, `answer_only_fraction` · n with just the answer, the rest with
    correct reasoning. The numbers are exact up to rounding. Raises UserError if the fractions leave no room, or the
    families have too few problems.
    """
    if unknown := sorted(set(source.family_weights) - set(puzzles.families)):
        raise UserError(f"sources.{source.name}.family_weights: {unknown[0]!r} is not a family of {puzzles.name}")
    for family, knobs in puzzles.families.items():
        n = source.pages_of(family)
        fractions = (source.duplicate_fraction, source.noise_fraction, source.answer_only_fraction)
        copies, noisy, bare = (round(n * fraction) for fraction in fractions)
        distinct = n - copies
        if noisy + bare > distinct or distinct == 0:
            raise UserError(
                f"sources.{source.name}: {n} pages of {family} are too few for its fractions; raise pages_per_family"
            )
        rng = random.Random(derive(seed, "pages", source.name, family))
        problems = generate({family: knobs}, "train", distinct, derive(seed, "problems", source.name))
        # If few short problems exist, they come first, so noisy pages are drawn at random rather than cut off the end.
        kinds = ["noisy"] * noisy + ["bare"] * bare + ["worked"] * (distinct - noisy - bare)
        rng.shuffle(kinds)
        written = [_page(p, kind, rng, source.noise_strength) for p, kind in zip(problems, kinds, strict=True)]
        yield from written
        for number, page in enumerate(rng.choices(written, k=copies)):
            yield Page(f"{page.key}-copy{number}", page.text, page.noisy, page.problem)


def _page(problem: Problem, kind: str, rng: random.Random, strength: float) -> Page:
    if kind == "noisy":
        return Page(problem.id, document(add_noise(problem, rng, strength, answer=True)), True, problem)
    return Page(problem.id, document(problem, with_reasoning=kind == "worked"), False, problem)
