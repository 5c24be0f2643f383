"""Conversations made from puzzles, as a source."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from thinkling.puzzles.brief import brief
from thinkling.puzzles.sources import PuzzleConversationsSource, PuzzlesSource
from thinkling.sources.base import bound


def source(**fields: object) -> PuzzleConversationsSource:
    given = {"type": "puzzle_conversations", "puzzles": "puzzles"} | fields
    made = PuzzleConversationsSource.model_validate(given)
    return bound({"puzzles": PuzzlesSource(type="puzzles", families={"sum": {"min_operands": 4}}), "made": made})[
        "made"
    ]


def test_the_requested_fraction_is_brief() -> None:
    problems = {p.id: p for p in source().other("puzzles").problems("train", 100, 3)}
    for fraction, low, high in ((0.0, 0, 0), (0.5, 30, 70), (1.0, 100, 100)):
        made = list(source(brief_fraction=fraction).conversations(100, 3))
        reasoning = {one.problem_id: one.messages[1]["reasoning_content"] for one in made}
        assert all(text in (problems[i].reasoning, brief(problems[i]).reasoning) for i, text in reasoning.items())
        assert low <= sum(text == brief(problems[i]).reasoning for i, text in reasoning.items()) <= high


def test_roles_have_no_brief_solutions() -> None:
    with pytest.raises(ValidationError, match=r"roles: these conversations have no solution; remove .* brief_fraction"):
        source(roles={"chain": 1}, brief_fraction=0.5)
