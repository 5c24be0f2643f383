"""Rows, epochs and learning rate of sft."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.stage import learning_rate, pack_epochs


def config(**fields: object) -> SftConfig:
    return SftConfig.model_validate(
        {
            "kind": "sft", "examples": {"source": "p", "problems_per_family": 1}, "epochs": 1, "row_length": 16,
            "batch_rows": 1, "optimizer": {"lr": 1.0},
        }
        | fields
    )  # fmt: skip


def items(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.full(3 + i % 5, i, dtype=np.int32), np.arange(3 + i % 5) >= 2) for i in range(n)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0.1, 3.0), st.integers(0, 9))
def test_every_conversation_once_an_epoch(n: int, epochs: float, seed: int) -> None:
    packed = pack_epochs(items(n), epochs, 16, seed, pad_id=0)
    seen = []
    for tokens, lengths in zip(packed.tokens_BT, packed.lengths, strict=True):
        start = 0
        for length in lengths:
            assert len(set(tokens[start : start + length])) == 1
            seen.append(int(tokens[start]))
            start += length
    counts = np.bincount(seen, minlength=n)
    assert counts.min() >= int(epochs)
    assert counts.max() <= int(np.ceil(epochs))


def test_loss_falls_on_masked_tokens_alone() -> None:
    packed = pack_epochs(items(1), 1, 16, 0, 0)
    assert packed.labels_BT[0, :3].tolist() == [-100, 0, -100]


def test_learning_rate_warms_up_holds_and_falls() -> None:
    rate = learning_rate(config(warmup_steps=2, decay_share=0.5, final_lr_share=0.1), 10)
    values = [rate(step) for step in range(10)]
    assert values[0] < values[1] < 1.0
    assert values[2:5] == [1.0] * 3
    assert values[5:] == sorted(values[5:], reverse=True)
    assert values[-1] == pytest.approx(0.1 + 0.9 * 0.1)


def test_learning_rate_of_a_short_run() -> None:
    assert learning_rate(config(warmup_steps=5), 3).total_steps == 3
