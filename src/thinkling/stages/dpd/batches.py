"""Pairs → packed rows of one forward pass, and which pairs a step takes.

B rows, T positions, P pairs, S = 2P sequences: sequence 2p is y⁺ of pair p, 2p + 1 its y⁻.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkling.data.packing import PackedBatch, first_fit, pack_conversations
from thinkling.seeds import derive
from thinkling.stages.dpd.pairs import Pair, Side


@dataclass(frozen=True)
class PairBatch:
    """Both sides of some pairs, or the one side that a loss needs, for one forward pass."""

    packed: PackedBatch
    sequences_BT: np.ndarray
    """int64: the sequence that a position belongs to, -1 in padding."""
    references_S: np.ndarray
    """float64: log π_ref(y|x) of each sequence."""
    n_pairs: int


def pack_pairs(pairs: Sequence[Pair], row_length: int, pad_id: int, sides: Sequence[int] = (0, 1)) -> PairBatch:
    """Packs by first fit. `sides`: 0 for y⁺, 1 for y⁻. A prompt and what a tool wrote bear no loss."""
    numbers = [2 * p + side for p in range(len(pairs)) for side in sides]
    items = [_with_prompt(pairs[s // 2].prompt, pairs[s // 2].sides[s % 2]) for s in numbers]
    packed = pack_conversations(items, row_length, pad_id)
    sequences_BT = np.full(packed.tokens_BT.shape, -1, dtype=np.int64)
    for b, row in enumerate(first_fit([len(ids) for ids, _ in items], row_length)):
        t = 0
        for item in row:
            sequences_BT[b, t : t + len(items[item][0])] = numbers[item]
            t += len(items[item][0])
    references = [side.reference_log_prob for pair in pairs for side in pair.sides]
    return PairBatch(packed, sequences_BT, np.array(references, dtype=np.float64), len(pairs))


def _with_prompt(prompt: list[int], completion: Side) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array(prompt + completion.tokens, dtype=np.int32)
    mask = np.array([False] * len(prompt) + [not forced for forced in completion.forced])
    return ids, mask


class PairOrder:
    """The pairs of each step: all pairs once an epoch, in an order drawn from (seed, epoch), on and on."""

    def __init__(self, n_pairs: int, batch_pairs: int, seed: int) -> None:
        self.n, self.batch, self.seed = n_pairs, batch_pairs, seed
        self._orders: dict[int, np.ndarray] = {}

    def step(self, step: int) -> list[int]:
        """Indices of the pairs of a step, a function of the step alone."""
        places = range(step * self.batch, (step + 1) * self.batch)
        return [int(self._order(place // self.n)[place % self.n]) for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            words = np.random.Philox(key=derive(self.seed, "pairs", epoch)).random_raw(self.n)
            self._orders[epoch] = np.argsort(words, kind="stable")
        return self._orders[epoch]
