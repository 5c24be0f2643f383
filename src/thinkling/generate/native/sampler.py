"""Samples tokens from logits: one counter-based random number and one inverse-CDF lookup per token.

Shapes: B rows, V vocab.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64
_FIRST_LOOK = 64
"""Number of most likely tokens that are searched for the end of the nucleus before a whole row is sorted. The nuclei of
trained models are usually smaller."""


def uniforms(seeds_B: Tensor, counters_B: Tensor) -> Tensor:
    """Returns the random number at each (seed, counter): fp64 (B,) in [0, 1), a multiple of 2⁻⁵², the same on every
    device.

    The numbers are drawn with SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), used as a counter-based generator. The seed
    is scrambled first, so that neighbouring seeds yield unrelated streams. int64 arithmetic wraps in the same way as
    the algorithm's uint64 arithmetic.
    """
    state = _scramble(seeds_B) + (counters_B + 1) * _GOLDEN
    return _shift_right(_scramble(state), 12).double() * 2.0**-52


def draw(logits_BV: Tensor, u_B: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draws one token per row. Returns the tokens, int64 (B,), and their log-probabilities before top-p, fp32 (B,) (see
    `Completion.logprobs`).

    `u_B`: fp64 in [0, 1), unused at temperature 0. The same u always yields the same token, even if probabilities are
    tied, because the inverse CDF is in the order of token ids.
    """
    logits = logits_BV.float()
    if temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, _pick(logits, tokens) - logits.logsumexp(-1)
    probabilities = torch.softmax(logits if temperature == 1 else logits / temperature, dim=-1)
    kept = probabilities
    if top_p < 1:
        kept = probabilities.where(probabilities >= nucleus_floor(probabilities, top_p).unsqueeze(-1), 0.0)
    cumulative = kept.cumsum(-1, dtype=torch.float64)
    # u ≤ 1 - 2⁻⁵² keeps the target below the total; `right` skips tokens of probability 0.
    target = u_B.unsqueeze(-1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    tokens.clamp_(max=logits.shape[-1] - 1)  # only relevant for NaN logits, whose log-probability is NaN
    return tokens, _pick(probabilities, tokens).log()


def nucleus_floor(probabilities_BV: Tensor, top_p: float) -> Tensor:
    """Returns the lowest probability in each row's nucleus, (B,). All tokens with that probability are included."""
    floor = probabilities_BV.amax(-1)
    rows = (floor < top_p).nonzero().squeeze(-1)
    vocab = probabilities_BV.shape[-1]
    for width in (min(_FIRST_LOOK, vocab), vocab):
        if not rows.numel():
            break
        likeliest = probabilities_BV[rows].topk(width).values
        # The sum is in fp64, so that rounding does not determine where the nucleus ends.
        short_of_p = (likeliest.cumsum(-1, dtype=torch.float64) < top_p).sum(-1)
        floor[rows] = likeliest.gather(-1, short_of_p.clamp(max=width - 1).unsqueeze(-1)).squeeze(-1)
        rows = rows[short_of_p >= width]
    return floor


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's `>>` is arithmetic."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _pick(values_BV: Tensor, tokens_B: Tensor) -> Tensor:
    return values_BV.gather(-1, tokens_B.unsqueeze(-1)).squeeze(-1)
