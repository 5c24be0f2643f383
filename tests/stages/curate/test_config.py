"""Mistakes in the curate stage's configuration are named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from thinkling.stages.curate.config import CurateConfig

GRADING = {"seeds": {"a": 3}, "hq_tokens": "1.5K"}


def config(**fields: Any) -> CurateConfig:
    return CurateConfig.model_validate({"kind": "curate", "sources": ["a"]} | fields)


def test_grading_takes_the_place_of_quality() -> None:
    grading = config(grading=GRADING).grading
    assert grading is not None
    assert (grading.hq_tokens, grading.mq_tokens) == (1500, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grading": GRADING, "quality": {"a": "hq"}}, "remove quality"),
        ({}, r"quality\.a: missing"),
        ({"grading": {**GRADING, "seeds": {"b": 3}}}, r"grading\.seeds: b is not one"),
        ({"grading": {**GRADING, "annotated": {"b": 3}}}, r"grading\.annotated: b is not one"),
        ({"grading": {**GRADING, "bytes_per_token": {}}}, r"grading\.bytes_per_token\.a: missing"),
        ({"grading": {**GRADING, "minimum": {"beauty": 3}}}, r"minimum\.beauty: unknown tag"),
        ({"grading": {**GRADING, "weights": {"similarity": 1, "beauty": 3}}}, r"weights\.beauty: unknown tag"),
        ({"grading": {**GRADING, "minimum": {"prose": 10}}}, "less than or equal to 9"),
        ({"grading": {**GRADING, "hq_tokens": "many"}}, "hq_tokens"),
        ({"grading": {**GRADING, "annotator": {"url": "ftp://x", "model": "m"}}}, "url"),
        (
            {"grading": {**GRADING, "labeller": "saved", "annotated": 200}},
            "annotated: has no effect with a saved labeller",
        ),
        ({"quality": {"a": "hq"}, "near_dedup": {"threshold": 1.5}}, "less than or equal to 1"),
    ],
)
def test_mistakes_name_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)
