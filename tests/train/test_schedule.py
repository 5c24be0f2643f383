import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thinkling.train.schedule import _CURVES, DecayShape, Schedule, Segment, warmup_stable_decay

rates = st.floats(min_value=0.0, max_value=1.0, allow_nan=False)
curves = st.builds(
    Segment,
    steps=st.integers(1, 200),
    lr_start=rates,
    lr_end=rates,
    shape=st.sampled_from(["linear", "cosine", "sqrt"]),
)


@given(st.lists(curves, min_size=1, max_size=6))
def test_every_step_belongs_to_its_segment_and_stays_between_its_ends(segments: list[Segment]) -> None:
    schedule = Schedule(segments)
    assert schedule.total_steps == sum(s.steps for s in segments)
    step = 0
    for segment in segments:
        low, high = sorted((segment.lr_start, segment.lr_end))
        values = [schedule(step + i) for i in range(segment.steps)]
        assert all(low <= value <= high for value in values)
        assert values == [segment.at(i) for i in range(segment.steps)]
        assert values == sorted(values, reverse=segment.lr_end < segment.lr_start)
        step += segment.steps


@given(curves)
def test_reversed_linear_and_cosine_segments_mirror(segment: Segment) -> None:
    if segment.shape == "sqrt":
        return
    back = segment.model_copy(update={"lr_start": segment.lr_end, "lr_end": segment.lr_start})
    for i in range(segment.steps):
        assert back.at(i) == pytest.approx(segment.at(segment.steps - 1 - i), abs=1e-12)


def test_shapes_at_hand_computed_points() -> None:
    assert Segment(steps=2, lr_start=0.0, lr_end=4.0).at(0) == 1.0
    assert Segment(steps=2, lr_start=0.0, lr_end=4.0).at(1) == 3.0
    assert Segment(steps=2, lr_start=4.0, lr_end=0.0, shape="sqrt").at(0) == 4.0 * (1 - math.sqrt(0.25))
    assert Segment(steps=3, lr_start=1.0, lr_end=0.0, shape="cosine").at(1) == pytest.approx(0.5)
    assert Segment(steps=3, lr_start=1.0, lr_end=0.0, shape="cosine").at(0) == pytest.approx(
        (1 + math.cos(math.pi / 6)) / 2
    )
    assert Segment(steps=7, lr_start=0.3, lr_end=0.3, shape="constant").at(5) == 0.3


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_schedule_is_refused(step: int) -> None:
    with pytest.raises(IndexError, match="10 steps"):
        Schedule([Segment(steps=10, lr_start=1.0, lr_end=1.0)])(step)


def test_a_constant_segment_with_two_rates_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be equal in a constant segment"):
        Segment(steps=1, lr_start=1.0, lr_end=0.5, shape="constant")


@given(st.integers(1, 500), st.integers(0, 300), st.floats(0.0, 1.0), st.sampled_from(get_args(DecayShape)))
def test_warmup_stable_decay_covers_all_steps(total: int, warmup: int, decay: float, shape: DecayShape) -> None:
    schedule = warmup_stable_decay(total, 2.0, warmup, decay, final_fraction=0.25, shape=shape)
    assert schedule.total_steps == total
    values = [schedule(i) for i in range(total)]
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert max(values) <= 2.0
    if warmup + round(total * decay) < total:
        assert max(values) == 2.0


def test_a_run_shorter_than_its_warmup_only_warms_up() -> None:
    schedule = warmup_stable_decay(3, 1.0, warmup_steps=5, decay_fraction=0.5)
    assert [schedule(i) for i in range(3)] == [0.5 / 3, 1.5 / 3, 2.5 / 3]


def test_every_decay_shape_has_its_curve() -> None:
    """Adding a shape touches one file: stages take the names from here."""
    assert set(_CURVES) == set(get_args(DecayShape))
    for curve in _CURVES.values():
        assert (curve(0.0), curve(1.0)) == (0.0, 1.0)
