"""Construction of the engine for a loaded model. Engines are constructed only here."""

from __future__ import annotations

import torch

from thinkling.generate.engine import Engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.native import NativeEngine


def make_engine(loaded: LoadedModel, max_concurrent: int = 128, dtype: torch.dtype | None = None) -> Engine:
    """Returns an engine with the model's current weights.

    `max_concurrent`: number of sequences decoded at once. `dtype`: compute dtype, by default the dtype of the weights.
    """
    return NativeEngine(loaded.decoder, max_concurrent, dtype)
