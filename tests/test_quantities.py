"""Numbers of tokens are read in one way, whichever stage asks."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from thinkling.quantities import Tokens

READ = TypeAdapter(Tokens).validate_python


@pytest.mark.parametrize(
    ("written", "tokens"),
    [("12.4T", 12_400_000_000_000), ("80K", 80_000), (" 6 B ", 6_000_000_000), (2e6, 2_000_000), ("512", 512), (7, 7)],
)
def test_what_is_understood(written: Any, tokens: int) -> None:
    assert READ(written) == tokens


@pytest.mark.parametrize("written", ["many", "-5", 0, 2.5, "3k", None])
def test_what_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        READ(written)


def test_curate_reads_floats_as_pretrain_does() -> None:
    """`hq_tokens: 2e6` was refused where `tokens: 2e6` was read."""
    from thinkling.stages.curate.config import CurateConfig

    grading = {"seeds": {"a": 3}, "hq_tokens": 2e6}
    config = CurateConfig.model_validate({"kind": "curate", "sources": ["a"], "grading": grading})
    assert config.grading is not None
    assert config.grading.hq_tokens == 2_000_000
