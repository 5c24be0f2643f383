"""Packs pairs into rows for one forward pass, and selects the pairs of each step.

Shapes: B rows, T positions, P pairs, A solved problems, S = 2P + A sequences. Sequence 2p is y⁺ of pair p, sequence 2p
+ 1 is y⁻ of pair p, and sequence 2P + a is the answer to solved problem a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkling.data.packing import PackedBatch, first_fit, pack_conversations
from thinkling.generate.rollouts import Rollout
from thinkling.seeds import derive, permutation
from thinkling.stages.dpd.pairs import Pair


@dataclass(frozen=True)
class PairBatch:
    """Pairs (both sides, or only the side that the loss needs) and solved problems for one forward pass."""

    packed: PackedBatch
    sequences_BT: np.ndarray
    """int64: number of the sequence to which each position belongs, -1 in padding."""
    references_S: np.ndarray
    """float64, (2P,): log π_ref(y|x) of the sequences that belong to pairs."""
    n_pairs: int
    n_solved: int


def pack_pairs(
    pairs: Sequence[Pair],
    sequence_length: int,
    pad_id: int,
    sides: Sequence[int] = (0, 1),
    solved: Sequence[Rollout] = (),
) -> PairBatch:
    """Packs pairs and solved problems by first fit. `sides`: the sides of each pair to pack, 0 for y⁺ and 1 for y⁻.
    Prompts and tool output carry no loss."""
    numbers = [2 * p + side for p in range(len(pairs)) for side in sides]
    written = [(pairs[s // 2].prompt, pairs[s // 2].sides[s % 2]) for s in numbers]
    numbers += range(2 * len(pairs), 2 * len(pairs) + len(solved))
    written += [(rollout.prompt, rollout) for rollout in solved]
    items = [_with_prompt(prompt, side.tokens, side.forced) for prompt, side in written]
    packed = pack_conversations(items, sequence_length, pad_id)
    sequences_BT = np.full(packed.tokens_BT.shape, -1, dtype=np.int64)
    for b, row in enumerate(first_fit([len(ids) for ids, _ in items], sequence_length)):
        t = 0
        for item in row:
            sequences_BT[b, t : t + len(items[item][0])] = numbers[item]
            t += len(items[item][0])
    references = [side.reference_log_prob for pair in pairs for side in pair.sides]
    return PairBatch(packed, sequences_BT, np.array(references, dtype=np.float64), len(pairs), len(solved))


def _with_prompt(prompt: list[int], tokens: list[int], forced: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(prompt + tokens, dtype=np.int32), np.array([False] * len(prompt) + [not f for f in forced])


class PairOrder:
    """Selects which of `n` pairs or solved problems each step uses. Every item is used once per epoch, in an order
    drawn from (seed, epoch). The number of epochs is not limited."""

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self._orders: dict[int, np.ndarray] = {}

    def step(self, step: int) -> list[int]:
        """Returns the indices for a step, which depend only on the number of the step."""
        places = range(step * self.batch, (step + 1) * self.batch)
        return [int(self._order(place // self.n)[place % self.n]) for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders[epoch] = permutation(self.n, derive(self.seed, "pairs", epoch))
        return self._orders[epoch]
