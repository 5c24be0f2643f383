"""Arithmetic of the phases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.errors import UserError
from thinkling.stages.pretrain.config import PhaseConfig, PretrainConfig
from thinkling.stages.pretrain.phases import averaged, check_order, epochs, phase_of, resolve, schedule


def make(*phases: dict, sequence_length: int = 128, batch_tokens: int | str = 1024) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "kind": "pretrain",
            "inputs": {"tokens": "t"},
            "sequence_length": sequence_length,
            "batch_tokens": batch_tokens,
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "phases": list(phases),
        }
    )


WARM = {"name": "w", "tokens": 10 * 1024, "learning_rate": [0, 1.0], "mixture": {"a": 1}}
FLAT = {"name": "f", "tokens": "20K", "learning_rate": 1.0, "mixture": {"a": 2, "b": 2}}
DOWN = {
    "name": "d",
    "tokens": 10 * 1024,
    "learning_rate": [1.0, 0.1],
    "mixture": {"b": 1},
    "sequence_length": 256,
    "rope_theta": 5e4,
    "decay": True,
}


def test_inheritance_and_rounding() -> None:
    warm, flat, down = resolve(make(WARM, FLAT, DOWN), rope_theta=1e4)
    assert (warm.first_step, warm.steps, flat.first_step, flat.steps, down.first_step) == (0, 10, 10, 20, 30)
    assert (flat.sequence_length, flat.batch_size, flat.rope_theta) == (128, 8, 1e4)
    assert (down.sequence_length, down.batch_size, down.rope_theta) == (256, 4, 5e4)
    assert flat.fractions == {"a": 0.5, "b": 0.5}
    assert flat.tokens == 20 * 1024
    assert phase_of((warm, flat, down), 9) is warm
    assert phase_of((warm, flat, down), 10) is flat
    with pytest.raises(IndexError):
        phase_of((warm, flat, down), 40)


def test_a_batch_ramp_is_inherited() -> None:
    ramp = [{**FLAT, "name": str(n), "batch_tokens": n} for n in (512, 2048)]
    warm, small, large, down = resolve(make(WARM, *ramp, DOWN), rope_theta=1e4)
    assert [p.batch_size for p in (warm, small, large, down)] == [8, 4, 16, 8]
    assert [p.batch_tokens for p in (warm, small, large, down)] == [1024, 512, 2048, 2048]
    assert [p.steps for p in (warm, small, large, down)] == [10, 39, 10, 5]  # 20,000 and 10,240 tokens
    assert (small.first_step, large.first_step, down.first_step, down.end) == (10, 49, 59, 64)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.none() | st.integers(1, 40)), min_size=1, max_size=6))
def test_steps_of_any_ramp(ramp: list[tuple[int, int | None]]) -> None:
    """Each phase is within half a step of its tokens, or one step; phases follow each other without gaps."""
    phases = [
        {**FLAT, "name": str(i), "tokens": tokens, **({} if rows is None else {"batch_tokens": rows * 128})}
        for i, (tokens, rows) in enumerate(ramp)
    ]
    resolved = resolve(make(*phases), 1e4, first_step=5)
    current, step = 8, 5
    for phase, (tokens, rows) in zip(resolved, ramp, strict=True):
        current = rows or current
        assert (phase.batch_size, phase.first_step) == (current, step)
        assert phase.tokens == phase.steps * current * 128
        assert phase.steps == 1 or abs(phase.tokens - tokens) <= current * 64
        step = phase.end


def test_learning_rate() -> None:
    rate = schedule(resolve(make(WARM, FLAT, DOWN), rope_theta=1e4))
    assert rate.total_steps == 40
    assert rate(0) == pytest.approx(0.05)  # the middle of the first of ten steps from 0 to 1
    assert rate(9) == pytest.approx(0.95)
    assert {rate(s) for s in range(10, 30)} == {1.0}
    assert rate(39) == pytest.approx(0.1 + 0.9 * 0.05)
    cosine = schedule(resolve(make({**DOWN, "shape": "cosine"}), 1e4))
    assert cosine(0) > rate(30)
    assert cosine(9) < rate(39)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 30))
def test_averaged_steps(flat: int, down: int, every: int) -> None:
    """Every `every` steps of the decay, the last one always, and none before the decay."""
    phases = resolve(make({**FLAT, "tokens": flat * 1024}, {**DOWN, "tokens": down * 1024}), 1e4, first_step=3)
    due = [step for step in range(3, 3 + flat + down) if averaged(phases, every)(step)]
    assert due == sorted(range(2 + flat + down, 2 + flat, -every))


def test_average_needs_a_decay() -> None:
    config = make(WARM, DOWN).model_dump()
    assert PretrainConfig.model_validate(config | {"average": {"every": 2}}).average is not None
    with pytest.raises(ValueError, match=r"average: no phase has `decay: true`, so there are no weights to average"):
        PretrainConfig.model_validate(config | {"average": {"every": 2}, "phases": [WARM, FLAT]})


def test_epochs_count_tokens_against_sizes() -> None:
    phases = resolve(make(FLAT), 1e4)
    assert epochs(phases, {"a": 5120.0, "b": 20480.0}) == [{"a": 2.0, "b": 0.5}]


def test_order() -> None:
    as_configs = [PhaseConfig.model_validate(p) for p in (WARM, {**FLAT, "mixture": {"a": 7}}, FLAT, DOWN)]
    check_order(as_configs)
    with pytest.raises(UserError, match=r"phases\.f: mixture and learning rate change"):
        check_order([as_configs[0], as_configs[2]])


@pytest.mark.parametrize(
    ("text", "tokens"), [("12.4T", 12_400_000_000_000), ("80K", 80_000), (2e6, 2_000_000), ("512", 512)]
)
def test_numbers_of_tokens(text: str, tokens: int) -> None:
    assert PhaseConfig.model_validate({**WARM, "tokens": text}).tokens == tokens


def test_rows_must_fill_a_step_of_every_phase() -> None:
    with pytest.raises(ValueError, match=r"phases\.d: batch_tokens 384 is not a multiple of sequence_length 256"):
        make({**FLAT, "batch_tokens": 384}, DOWN)


def test_rows_must_fill_a_step() -> None:
    with pytest.raises(ValueError, match=r"phases\.d: batch_tokens 1152 is not a multiple of sequence_length 256"):
        make(WARM, DOWN, batch_tokens=1152)
