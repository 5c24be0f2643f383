"""Rows of pairs, which tokens bear a loss, and the pairs of a step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.stages.dpd.batches import PairOrder, pack_pairs


@pytest.mark.parametrize("sides", [(0, 1), (0,), (1,)])
def test_loss_on_what_the_models_wrote_alone(sides: tuple[int, ...], make_pair) -> None:
    """Neither prompts, nor a tool's tokens, nor padding; every token under its own sequence."""
    pairs = [make_pair(i) for i in range(7)]
    batch = pack_pairs(pairs, 24, 0, sides)
    bears = batch.packed.labels_BT != -100
    found = Counter(batch.sequences_BT[bears].tolist())
    expected = {
        2 * p + side: len(pair.sides[side].tokens) - sum(pair.sides[side].forced)
        for p, pair in enumerate(pairs)
        for side in sides
    }
    assert found == expected
    for sequence in expected:
        completion = pairs[sequence // 2].sides[sequence % 2]
        mine = batch.sequences_BT == sequence
        assert batch.packed.tokens_BT[mine].tolist() == pairs[sequence // 2].prompt + completion.tokens
        wanted = [t for t, forced in zip(completion.tokens, completion.forced, strict=True) if not forced]
        assert batch.packed.labels_BT[mine & bears].tolist() == wanted
    assert batch.references_S.tolist() == [-7.5, -9.25] * 7
    assert batch.n_pairs == 7


def test_solved_problems_stand_behind_the_pairs(make_pair, make_rollout) -> None:
    solved = [make_rollout("s", 0, "right", [7, 8, 9]), make_rollout("t", 0, "right", [6])]
    batch = pack_pairs([make_pair(0)], 24, 0, (0,), solved)
    bears = batch.packed.labels_BT != -100
    found = {s: batch.packed.labels_BT[bears & (batch.sequences_BT == s)].tolist() for s in (2, 3)}
    assert found == {2: [7, 8, 9], 3: [6]}
    assert len(batch.references_S) == 2
    assert (batch.n_pairs, batch.n_solved) == (1, 2)


def test_without_references(make_pair) -> None:
    assert np.isnan(pack_pairs([make_pair(0, (None, None))], 24, 0).references_S).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_every_pair_once_an_epoch(n: int, batch: int, seed: int) -> None:
    order = PairOrder(n, batch, seed)
    seen = [i for step in range(3 * n) for i in order.step(step)]
    for start in range(0, len(seen) - n + 1, n):
        assert sorted(seen[start : start + n]) == list(range(n))
    assert PairOrder(n, batch, seed).step(2) == order.step(2)
