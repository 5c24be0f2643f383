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
"""Draws in a row that may bring nothing new before the space counts as used up."""


def generate(
    family_knobs: Mapping[str, Knobs], split: Split, n_per_family: int | Mapping[str, int], seed: int
) -> list[Problem]:
    """Problems of one split, distinct by question, family after family in the order of `family_knobs`.

    A family's problems depend on its name, its knobs, the split and the seed alone; a larger n continues a smaller one.
    Short problems run out first, so a set near the size of its space leans to long ones.
    Raises UserError: unknown family or knob, or fewer than n distinct problems under the knobs.
    """
    problems = []
    for name, knobs in family_knobs.items():
        if name not in FAMILIES:
            raise UserError(f"unknown puzzle family {name!r}; there are {', '.join(FAMILIES)}")
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
                    f"family {family.name}: found {len(found)} distinct {side} problems of the {n} wanted; "
                    "ask for fewer, or widen its knobs"
                )
            continue
        misses = 0
        found[problem.id] = problem
    return list(found.values())
