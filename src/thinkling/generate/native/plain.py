"""Sampling with the decoder's own forward pass, for families with a custom layer. This method is correct for every
decoder but slow, because the whole sequence is recomputed for each new token.

Shapes: B active rows, T positions, V vocab.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder

_BATCH_TOKENS = 16384
"""Maximum number of tokens per forward pass, unless a single sequence is longer."""


class PlainWeights:
    """A copy of a decoder. Training does not change the copy; `refresh` updates it."""

    def __init__(self, model: Decoder, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.refresh(model)

    @torch.no_grad()
    def refresh(self, model: Decoder) -> None:
        """Copies the current weights, rotary base and device."""
        self.model = copy.deepcopy(model).to(self.dtype).requires_grad_(False)
        self.config: ModelConfig = model.config
        self.device = model.model.embed_tokens.weight.device


class TokenCache:
    """The tokens of up to `rows` sequences, (rows, T). Active rows always come first."""

    def __init__(self, weights: PlainWeights, rows: int, length: int) -> None:
        self.weights = weights
        self.tokens = torch.zeros(rows, length, dtype=torch.int64, device=weights.device)

    @property
    def rows(self) -> int:
        return self.tokens.shape[0]

    def reserve(self, length: int, limit: int) -> None:
        """Makes room for `length` positions. The cache grows by at least half of its size, up to `limit` positions."""
        present = self.tokens.shape[1]
        if length > present:
            room = min(max(length, present * 3 // 2), limit) - present
            self.tokens = torch.cat((self.tokens, self.tokens.new_zeros(self.rows, room)), 1)

    def move(self, source: np.ndarray, target: np.ndarray, length: int) -> None:
        """Copies the first `length` positions of rows `source` over rows `target`."""
        to, of = (torch.from_numpy(rows).to(self.tokens.device) for rows in (target, source))
        self.tokens[to, :length] = self.tokens[of, :length]

    def prefill(self, tokens_BT: Tensor, rows_of: list[list[int]]) -> None:
        """Writes prompt b to the rows `rows_of[b]`."""
        for tokens_T, rows in zip(tokens_BT, rows_of, strict=True):
            self.tokens[rows, : len(tokens_T)] = tokens_T

    def decode(self, tokens_B: Tensor, positions: np.ndarray) -> Tensor:
        """Returns logits (B, V) after one more token of each active row, at `positions`."""
        where = torch.from_numpy(positions).to(self.tokens.device)
        self.tokens[torch.arange(len(positions), device=where.device), where] = tokens_B
        lengths = (positions + 1).tolist()
        logits: list[Tensor] = []
        first = 0
        while first < len(lengths):
            last, total = first + 1, lengths[first]
            while last < len(lengths) and total + lengths[last] <= _BATCH_TOKENS:
                total += lengths[last]
                last += 1
            logits.append(self._logits(first, lengths[first:last]))
            first = last
        return torch.cat(logits)

    def _logits(self, first: int, lengths: list[int]) -> Tensor:
        model, device = self.weights.model, self.tokens.device
        row = torch.cat([self.tokens[first + i, :n] for i, n in enumerate(lengths)]).unsqueeze(0)
        x_BTD = model(row, DocumentLayout.from_lengths([lengths], row.shape[1], device))
        return model.logits(x_BTD[0, torch.tensor(lengths, device=device).cumsum(0) - 1])
