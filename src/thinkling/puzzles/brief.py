"""Brief reasoning: correct, but with larger steps, each of which does more in the model's head.

`sum A1B+5C+9D-8E+2` reasons `B+5=6C+9=15D-8=7E+2=9` step by step, and `C+9=15E+2=9` in brief. People write both, so
conversations contain both; reinforcement learning has to find out which one leads to the correct answer more often.
"""

from __future__ import annotations

import dataclasses
import random

from thinkling.puzzles.families import CHAIN_STEP
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem

FAMILIES = ("sum", "mod", "maximum", "product")
"""Families with brief reasoning: those made of chains."""


def brief(problem: Problem) -> Problem:
    """The problem with every second step of each chain left out of its reasoning, never the last one; unchanged if the
    family has no chains."""
    if problem.family not in FAMILIES:
        return problem
    chains = []
    for chain in problem.reasoning.split(","):
        steps = CHAIN_STEP.findall(chain)
        chains.append("".join(step for i, step in enumerate(steps) if i % 2 or i == len(steps) - 1))
    return dataclasses.replace(problem, reasoning=",".join(chains))


def sometimes_brief(problem: Problem, seed: int, fraction: float) -> Problem:
    """`brief` with probability `fraction`, which depends on seed and problem only."""
    chosen = fraction > 0 and random.Random(derive(seed, "brief", problem.id)).random() < fraction
    return brief(problem) if chosen else problem
