"""The dry-run step: before training, one step of the largest shapes is computed and discarded, so that layers are
compiled and a lack of memory shows at once. Nothing that determines the result changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from thinkling.data.packing import PackedBatch
from thinkling.labels import IGNORE
from thinkling.stages.training.memory import GIB, Batch
from thinkling.train.trainer import Trainer


@dataclass(frozen=True)
class DryRun:
    """The result of a dry-run step."""

    seconds: float
    """Duration, including compilation."""
    predicted: float | None
    """Predicted peak in bytes."""
    peak: int | None
    """Measured peak in bytes, on a GPU."""
    capacity: int | None
    """Memory of the GPU in bytes."""

    def line(self) -> str:
        """Returns the text for the progress display."""
        text = f"dry-run step: {self.seconds:.1f} s"
        if self.peak is not None and self.capacity is not None:
            return f"{text}, peak {self.peak / GIB:.1f} GiB of {self.capacity / GIB:.1f}"
        return text if self.predicted is None else f"{text}, predicted peak {self.predicted / GIB:.2f} GiB"

    def facts(self) -> dict[str, Any]:
        """Returns the values for train.log.jsonl."""
        seconds = round(self.seconds, 5)
        return {"dry_run_seconds": seconds, "peak_bytes": self.peak, "predicted_peak_bytes": self.predicted}


def wanted(asked: bool | None, device: torch.device) -> bool:
    """Whether to run a dry-run step. By default, on a GPU only, because nothing is compiled on a CPU."""
    return device.type == "cuda" if asked is None else asked


def dry_run(trainer: Trainer, shapes: Sequence[Batch], vocab_size: int, predicted: float | None = None) -> DryRun:
    """Computes and discards a step of the first shape and a step of the largest shape. Must be called on all ranks.

    The first shape comes first even if it is not the largest, because torch.compile generalizes a function at the
    second shape; the steps with the first shape should not be slower than without a dry run.
    """
    device = trainer.parallel.device
    largest = max(shapes, key=lambda shape: (shape.tokens, shape.micro_batches > 1, shape.length))
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    start = time.monotonic()
    for shape in dict.fromkeys((shapes[0], largest)):
        # On a GPU, rows with several documents have kernels of their own.
        for documents in (1, 2) if on_gpu else (1,):
            trainer.dry_run([random_batch(shape, documents, vocab_size)] * min(2, shape.micro_batches))
    peak = capacity = None
    if on_gpu:
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        capacity = torch.cuda.get_device_properties(device).total_memory
    return DryRun(time.monotonic() - start, predicted, peak, capacity)


def random_batch(shape: Batch, documents: int, vocab_size: int) -> PackedBatch:
    """Returns rows of `documents` documents without padding, in which all tokens but the last of a document are loss
    tokens. The tokens are always the same."""
    tokens_BT = np.random.default_rng(0).integers(0, vocab_size, (shape.rows, shape.length))
    size = -(-shape.length // documents)
    ends = np.array([*range(size, shape.length, size), shape.length])
    labels_BT = np.roll(tokens_BT, -1, 1)
    labels_BT[:, ends - 1] = IGNORE
    return PackedBatch(tokens_BT, labels_BT, (tuple(int(n) for n in np.diff(ends, prepend=0)),) * shape.rows)
