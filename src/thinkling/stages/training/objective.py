"""Next-token loss over packed rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from thinkling.data.packing import PackedBatch
from thinkling.labels import IGNORE
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.device import to_device
from thinkling.model.loss import chunked_cross_entropy, chunked_cross_entropy_and_z_loss
from thinkling.train.config import Dtype
from thinkling.train.precision import DTYPES, computing
from thinkling.train.trainer import Objective

Z_LOSS = "z_loss"
"""Name of the z-loss among the metrics."""


def next_token_objective(device: torch.device, z_weight: float = 0.0) -> Objective:
    """Returns an objective that computes the cross-entropy over the labels of a PackedBatch. Documents do not attend to
    each other. With a `z_weight`, the loss includes the z-loss, which is also logged."""

    def objective(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
        assert isinstance(model, Decoder)
        layout = DocumentLayout.from_lengths(batch.lengths, batch.tokens_BT.shape[1], device)
        x_BTD = model(to_device(batch.tokens_BT, device), layout)
        labels_N = to_device(batch.labels_BT, device).flatten()
        kept = to_device(np.flatnonzero(batch.labels_BT != IGNORE), device)
        x_ND, weight_VD = x_BTD.flatten(0, 1), model.output_weight
        if not z_weight:
            return chunked_cross_entropy(x_ND, weight_VD, labels_N, kept=kept), len(kept), {}
        loss, z_loss = chunked_cross_entropy_and_z_loss(x_ND, weight_VD, labels_N, z_weight, kept=kept)
        return loss, len(kept), {Z_LOSS: z_loss}

    return objective


@torch.no_grad()
def mean_loss(
    model: nn.Module, batches: Iterable[PackedBatch], device: torch.device, compute: Dtype | None = None
) -> float:
    """Returns the mean loss per loss token over all batches, in nats. `compute`: dtype of the computation, if it
    differs from the dtype of the weights."""
    objective = next_token_objective(device)
    with computing(model, DTYPES[compute]) if compute else nullcontext():
        parts = [objective(model, batch)[:2] for batch in batches]
    return sum(float(loss) for loss, _ in parts) / max(1, sum(n for _, n in parts))
