"""The device of this process where nobody names one."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The current CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
