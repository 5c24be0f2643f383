"""Copies of a training state in host memory, which a thread writes while training changes the state itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from thinkling.train.parallel import shards

T = TypeVar("T")


class HostCopy:
    """Buffers in host memory, which are used again for every copy. The buffers of tensors on a GPU are pinned.

    torch's `DefaultStager` has the same purpose, but copies the device meshes of sharded tensors as well, and such a
    mesh keeps its process group alive.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors, and return when the copies are complete. The copies are valid until the next call."""
        from torch.distributed.tensor import DTensor

        local = dict(zip(tensors, shards([x.detach() for x in tensors.values()]), strict=True))
        self._buffers = {name: self._buffer(name, x) for name, x in local.items()}
        for name, buffer in self._buffers.items():
            buffer.copy_(local[name], non_blocking=True)
        for device in {x.device for x in local.values() if x.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        # The copy of a shard has the mesh and the placement of the original, which describe its part of the tensor.
        return {
            name: DTensor(self._buffers[name], x._spec, requires_grad=False) if isinstance(x, DTensor) else buffer  # pyright: ignore
            for (name, x), buffer in zip(tensors.items(), self._buffers.values(), strict=True)
        }

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        found = self._buffers.get(name)
        if found is not None and (found.shape, found.dtype) == (like.shape, like.dtype):
            return found
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda and like.numel() > 0)

    def free(self) -> None:
        """Free the buffers. The last copies must no longer be used."""
        self._buffers = {}


def in_background(function: Callable[[], T], device: torch.device) -> Future[T]:
    """Call a function in a thread of its own. `device`: the device of this process."""

    def call() -> T:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # the current device belongs to the thread
        return function()

    pool = ThreadPoolExecutor(1, "checkpoint")
    future = pool.submit(call)
    pool.shutdown(wait=False)  # the thread ends after the call
    return future


def ignore_single_process() -> None:
    """Suppress torch's warning about saving from a single process, in all threads."""
    warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
