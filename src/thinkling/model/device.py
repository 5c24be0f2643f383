"""The default device of this process."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def default_device() -> torch.device:
    """Returns the current CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(x: np.ndarray | Tensor, device: torch.device | str | None) -> Tensor:
    """Returns x on the device. The host does not wait for a copy to a GPU."""
    tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    if device is None or torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
