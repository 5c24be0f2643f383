"""What makes all samples worthless is said at once; a few, or some good ones, say nothing."""

from __future__ import annotations

import pytest

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.first_look import FEWEST, all_unreadable, refuse_unreadable

GOOD = Reading("", "42", text="42")
BAD = Reading("so", None, well_formed=False, text="<think>\n" + "so " * 200)


def test_all_cut_off_names_reason_example_and_cure() -> None:
    reason = all_unreadable([(BAD, True)] * FEWEST, 96)
    assert reason is not None
    assert reason.startswith("all 64 samples were cut off by max_new_tokens 96; one begins '<think>\\nso so")
    assert reason.endswith("raise max_new_tokens, or check that the model ends turns the way its chat template does")
    assert len(reason) < 400
    with pytest.raises(UserError, match=r"stages\.rl: all 64 samples were cut off"):
        refuse_unreadable([(BAD, True)] * FEWEST, 96, "stages.rl")


def test_none_well_formed() -> None:
    reason = all_unreadable([(BAD, False)] * 100, 96)
    assert reason is not None
    assert "none of 100 samples is well-formed" in reason
    assert "chat template" in reason


@pytest.mark.parametrize(
    "samples",
    [[(BAD, True)] * (FEWEST - 1), [(BAD, True)] * 99 + [(GOOD, False)], [(BAD, False)] * 99 + [(GOOD, False)], []],
)
def test_otherwise_nothing_is_said(samples: list[tuple[Reading, bool]]) -> None:
    assert all_unreadable(samples, 96) is None
    refuse_unreadable(samples, 96, "x")
