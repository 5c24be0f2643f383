"""Causal attention inside each packed document, and nowhere else.

Shapes: B rows, T positions, H query heads, K key/value heads, C head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DocumentLayout:
    """Where the documents of a batch of rows lie. What no document covers is padding at the row's end."""

    lengths: tuple[tuple[int, ...], ...]
    """Per row the lengths of its documents, in order."""
    row_length: int
    positions_BT: Tensor
    """int64; restarts at 0 with each document, and with the padding."""
    cu_seqlens: Tensor
    """int32; bounds of all documents and paddings over the B·T tokens, from 0 to B·T."""

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[Sequence[int]], row_length: int, device: torch.device | str | None = None
    ) -> DocumentLayout:
        """Raises ValueError where a document is empty or a row's documents exceed `row_length`."""
        rows = tuple(tuple(int(n) for n in row) for row in lengths)
        segments: list[int] = []
        for row in rows:
            used = sum(row)
            if min(row, default=1) < 1 or used > row_length:
                raise ValueError(f"documents of {list(row)} tokens do not fit a row of {row_length}")
            segments += row
            if used < row_length:
                segments.append(row_length - used)
        sizes = torch.tensor(segments, dtype=torch.int64)
        ends = sizes.cumsum(0)
        starts = ends - sizes
        positions = torch.arange(len(rows) * row_length) - starts.repeat_interleave(sizes)
        return cls(
            lengths=rows,
            row_length=row_length,
            positions_BT=positions.view(len(rows), row_length).to(device),
            cu_seqlens=torch.cat((torch.zeros(1, dtype=torch.int64), ends)).to(device=device, dtype=torch.int32),
        )


def packed_attention(q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, layout: DocumentLayout) -> Tensor:
    """Causal softmax attention, scale 1/√C, within each document; gives o_BTHC. Padding's outputs mean nothing."""
    out_BTHC = torch.zeros_like(q_BTHC)
    for row, lengths in enumerate(layout.lengths):
        start = 0
        for n in lengths:
            part = slice(start, start + n)
            q, k, v = (x[row, part].transpose(0, 1).unsqueeze(0) for x in (q_BTHC, k_BTKC, v_BTKC))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            out_BTHC[row, part] = o[0].transpose(0, 1)
            start += n
    return out_BTHC
