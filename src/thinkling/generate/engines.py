"""The engine of a loaded model. The only place that constructs one."""

from __future__ import annotations

import torch

from thinkling.generate.engine import Engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.native import NativeEngine


def make_engine(loaded: LoadedModel, max_concurrent: int = 128, dtype: torch.dtype | None = None) -> Engine:
    """An engine with the model's present weights. `max_concurrent`: sequences decoded at once. `dtype`: what it
    computes in; that of the weights where not given."""
    return NativeEngine(loaded.decoder, max_concurrent, dtype)
