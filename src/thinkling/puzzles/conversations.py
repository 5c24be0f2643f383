"""Training conversations made from puzzles."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from thinkling.data.conversations import Conversation
from thinkling.errors import UserError
from thinkling.puzzles import refinement
from thinkling.puzzles.brief import sometimes_brief
from thinkling.puzzles.examples import Message, example
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem

if TYPE_CHECKING:
    from thinkling.puzzles.sources import PuzzlesSource


def worked(
    source: PuzzlesSource,
    problems: Iterable[Problem],
    seed: int,
    answer_only_fraction: float = 0.0,
    noise_fraction: float = 0.0,
    noise_strength: float = 0.15,
    brief_fraction: float = 0.0,
) -> Iterator[Conversation]:
    """Each problem with its solution, degraded if requested. Each result depends on seed and problem only."""
    for problem in problems:
        shown = sometimes_brief(problem, seed, brief_fraction)
        messages = example(shown, seed, answer_only_fraction, noise_fraction, noise_strength)
        yield _conversation(source, problem, messages)


def in_roles(
    source: PuzzlesSource, problems: Iterable[Problem], seed: int, roles: Mapping[refinement.Role, float]
) -> Iterator[Conversation]:
    """Each problem in a refine role, drawn by weight. Raises UserError for a family without roles."""
    for problem in problems:
        if problem.family not in refinement.FAMILIES:
            known = ", ".join(refinement.FAMILIES)
            raise UserError(f"sources.{source.name}: family {problem.family!r} has no roles; use one of {known}")
        rng = random.Random(derive(seed, "role", problem.id))
        yield _conversation(source, problem, refinement.conversation(problem, roles, rng))


def _conversation(source: PuzzlesSource, problem: Problem, messages: list[Message]) -> Conversation:
    return Conversation(problem.id, messages, f"{source.name}/{problem.family}", problem.id)
