"""Makes the engine of a loaded model. This is the only place where one is constructed."""

from __future__ import annotations

import torch

from thinkling.generate.engine import Engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.native import NativeEngine


def make_engine(loaded: LoadedModel, max_concurrent: int = 128, dtype: torch.dtype | None = None) -> Engine:
    """An engine with the model's current weights. `max_concurrent`: sequences decoded at once. `dtype`: compute dtype;
    by default that of the weights."""
    return NativeEngine(loaded.decoder, max_concurrent, dtype)
