"""Sets of distinct problems: training sets and the held-out set, which never share a question."""

from __future__ import annotations

import random
from collections.abc import Mapping

from thinkling.errors import UserError
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.family import Family, Knobs
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem, Split, split

_MAX_MISSES = 20_000
"""Consecutive draws without anything new after which the space counts as exhausted."""


def generate(
    family_knobs: Mapping[str, Knobs], split: Split, n_per_family: int | Mapping[str, int], seed: int
) -> list[Problem]:
    """Problems of one split, distinct by question, family by family in the order of `family_knobs`.

    A family's problems depend only on its name, knobs, split and seed; a larger n extends a smaller one. Short problems
    run out first, so a set close to the size of its space has more long ones. Raises UserError for an unknown family or
    knob, and if the knobs allow fewer than n distinct problems.
    """
    problems = []
    for name, knobs in family_knobs.items():
        if name not in FAMILIES:
            raise UserError(f"unknown puzzle family {name!r}; use one of {', '.join(FAMILIES)}")
        n = n_per_family if isinstance(n_per_family, int) else n_per_family[name]
        problems += _distinct(FAMILIES[name], knobs, split, n, seed)
    return problems


def heldout(family_knobs: Mapping[str, Knobs], n_per_family: int | Mapping[str, int], seed: int) -> list[Problem]:
    """`generate` for the held-out split."""
    return generate(family_knobs, "heldout", n_per_family, seed)


def _distinct(family: Family, knobs: Knobs, side: Split, n: int, seed: int) -> list[Problem]:
    full = family.check(knobs)
    rng = random.Random(derive(seed, "problems", family.name, side))
    found: dict[str, Problem] = {}
    misses = 0
    while len(found) < n:
        problem = family.sample_checked(rng, full)
        if problem.id in found or split(problem) != side:
            misses += 1
            if misses > _MAX_MISSES:
                raise UserError(
                    f"family {family.name}: found {len(found)} of {n} distinct {side} problems; "
                    "use fewer, or widen its knobs"
                )
            continue
        misses = 0
        found[problem.id] = problem
    return list(found.values())
