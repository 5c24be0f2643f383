"""The default device of this process."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """Returns the current CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
