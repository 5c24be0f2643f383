"""Packed attention on CPU against torch attention with a boolean document mask, A B A B in one process.

    python -m benchmarks.speed.attention

speed.attention-cpu-4k: forward + backward of one row of 4,096 tokens that holds 16 documents of unequal length (39 to
578 tokens), 3 heads of 32 channels, fp32. Our time includes planning the layout each time; the mask is built
outside the measured time. Value: geometric mean of the paired ratios of seconds, mask / ours, with its 95% t-interval
over pairs (of their logarithms). The same with 16 equal documents is also stored.
exact.packed-documents: every document of four layouts is changed in turn, in queries, keys and values; the value is the
largest change in any output or gradient of another document. The same is done through a decoder, comparing the other
documents' hidden states.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.paired import geometric_mean
from thinkling.model.attention import DocumentLayout, packed_attention
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder

HEADS, CHANNELS, ROW = 3, 32, 4096
UNEQUAL = (39, 578, 256, 113, 402, 311, 64, 190, 530, 222, 87, 349, 271, 145, 205, 334)
LAYOUTS: dict[str, tuple[Sequence[Sequence[int]], int]] = {
    "mask over a short row": ([[30, 20, 40, 38], [64, 50]], 128),
    "groups": ([UNEQUAL], ROW),
    "equal documents": ([[256] * 4], 1024),
    "flash kernel": ([[600, 40, 700, 20]], 1400),
}


def inputs(rows: int, length: int) -> list[Tensor]:
    """Queries, keys and values (B, T, H, C)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, length, HEADS, CHANNELS, generator=generator).requires_grad_() for _ in range(3)]


def run(tensors: Sequence[Tensor], attention: Callable[..., Tensor]) -> list[Tensor]:
    """Output and gradients."""
    out = attention(*tensors)
    return [out, *torch.autograd.grad(out, tensors, torch.ones_like(out))]


def masked(mask: Tensor) -> Callable[..., Tensor]:
    """The peer: one call over the row under a boolean mask (1, 1, T, T)."""

    def attention(*tensors: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in tensors)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

    return attention


def ratios(lengths: Sequence[int], pairs: int) -> list[float]:
    """Seconds with a mask / our seconds, pair by pair, after a warm-up of both that checks that they agree."""
    tensors = inputs(1, ROW)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    mask = (ids.unsqueeze(0) == ids.unsqueeze(1)).tril()[None, None]
    peer = masked(mask)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(q, k, v, DocumentLayout.from_lengths([lengths], ROW))

    for a, b in zip(run(tensors, ours), run(tensors, peer), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    found = []
    for _ in range(pairs):
        seconds = []
        for attention in (ours, peer):
            start = time.perf_counter()
            run(tensors, attention)
            seconds.append(time.perf_counter() - start)
        print(f"ours {seconds[0] * 1e3:.1f} ms, mask {seconds[1] * 1e3:.1f} ms", file=sys.stderr)
        found.append(seconds[1] / seconds[0])
    return found


def speed(pairs: int) -> dict[str, Any]:
    """The measurement of speed.attention-cpu-4k."""
    found, equal = ratios(UNEQUAL, pairs), ratios([256] * 16, pairs)
    details = {"n": pairs, "runs": [round(r, 3) for r in found], "unit": "ratio", "threads": torch.get_num_threads()}
    return geometric_mean(found) | details | {"equal_documents": geometric_mean(equal)}


def packed(layout: DocumentLayout) -> Callable[..., Tensor]:
    """Our attention for one layout."""
    return lambda q, k, v: packed_attention(q, k, v, layout)


def leaks() -> dict[str, Any]:
    """The measurement of exact.packed-documents."""
    found: dict[str, float] = {}
    count = 0
    for name, (lengths, sequence_length) in LAYOUTS.items():
        layout = DocumentLayout.from_lengths(lengths, sequence_length)
        tensors = inputs(len(lengths), sequence_length)
        reference = run(tensors, packed(layout))
        found[name] = 0.0
        for row, sizes in enumerate(lengths):
            for i, n in enumerate(sizes):
                count += 1
                part = slice(sum(sizes[:i]), sum(sizes[: i + 1]))
                changed = [x.detach().clone() for x in tensors]
                for x in changed:
                    x[row, part] *= -100.0
                    x.requires_grad_()
                for a, b in zip(run(changed, packed(layout)), reference, strict=True):
                    moved = (a - b).detach().abs()
                    if not moved[row, part].any() and n > 1:
                        raise AssertionError(f"{name}: a changed document of {n} tokens did not move itself")
                    moved[row, part] = 0
                    found[name] = max(found[name], moved.max().item())
    found["decoder"], more = decoder_leaks()
    return {
        "value": max(found.values()),
        "n": count + more,
        "runs": [found],
        "unit": "absolute",
        "threads": torch.get_num_threads(),
    }


def decoder_leaks() -> tuple[float, int]:
    """Largest change in other documents' hidden states, and the number of documents changed."""
    lengths, sequence_length = LAYOUTS["mask over a short row"]
    shape = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": HEADS}
    config = ModelConfig.model_validate(shape | {"vocab_size": 512, "num_key_value_heads": HEADS, "head_dim": CHANNELS})
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.randint(512, (len(lengths), sequence_length), generator=torch.Generator().manual_seed(0))
    layout = DocumentLayout.from_lengths(lengths, sequence_length)
    worst, count = 0.0, 0
    with torch.no_grad():
        reference = model(tokens, layout)
        for row, sizes in enumerate(lengths):
            for i in range(len(sizes)):
                count += 1
                part = slice(sum(sizes[:i]), sum(sizes[: i + 1]))
                changed = tokens.clone()
                changed[row, part] = (changed[row, part] + 1) % 512
                moved = (model(changed, layout) - reference).abs()
                assert moved[row, part].any()
                moved[row, part] = 0
                worst = max(
                    worst, moved[row, : sum(sizes)].max().item(), moved[1 - row, : sum(lengths[1 - row])].max().item()
                )
    return worst, count


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of speed.attention-cpu-4k, at least 2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"threads: {torch.get_num_threads()}", file=sys.stderr)
    measured = {"speed.attention-cpu-4k": speed(options.pairs), "exact.packed-documents": leaks()}
    print(json.dumps({"measurements": measured}))


if __name__ == "__main__":
    main()
