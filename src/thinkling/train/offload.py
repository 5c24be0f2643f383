"""Optimizer state in host memory, which each update moves through the device part by part.

The update of an element is computed on the device, by the same kernel as without offload, so that the results are equal
bit for bit. In exchange, each update moves the state to the device and back: 8 bytes per parameter in each direction
for AdamW in fp32, 4 bytes in bf16. Both directions of the bus are used at the same time, so a model with 4 billion
parameters needs about 0.6 s per update in fp32 at 50 GB/s (PCIe 5.0 with 16 lanes), whatever the number of
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thinkling.train.parallel import shards

PART = 1 << 24
"""Maximum number of parameters whose state is on the device at the same time, per buffer. With fp32 state, a buffer
takes 128 MiB."""
BUFFERS = 3
"""Number of buffers: one is being filled, one is being updated and one is being copied back."""
_ALIGNED = 256
"""Tensors are divided at multiples of this number of elements, so that kernels load aligned vectors."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Piece(NamedTuple):
    """Some consecutive elements of this rank's part of a parameter, and their state on the device."""

    parameter: nn.Parameter
    elements: slice
    mean: Tensor
    square: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Return a view of these elements of a tensor with the shape of the parameter's part."""
        return x.view(-1)[self.elements]


def divided(sizes: Sequence[int], most: int) -> list[list[tuple[int, slice]]]:
    """Divide tensors of the given sizes, in order, into parts of at most `most` elements, which must be a multiple of
    256. Return (index of the tensor, elements) for each piece of each part. A tensor without elements is one piece."""
    parts: list[list[tuple[int, slice]]] = [[]]
    free = most
    for i, size in enumerate(sizes):
        start = 0
        while True:
            if not free:
                parts.append([])
                free = most
            stop = min(size, start + free)
            parts[-1].append((i, slice(start, stop)))
            free -= _rounded_up(stop - start)
            if stop == size:
                break
            start = stop
    return parts


def _rounded_up(n: int) -> int:
    return -(-n // _ALIGNED) * _ALIGNED


class HostState:
    """Allocates state in host memory, and lends it to the device. On a GPU, the memory is pinned, and all copies run
    beside the computation, in streams of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: list[_Buffer] = []
        self._streams = (torch.cuda.Stream(device), torch.cuda.Stream(device)) if device.type == "cuda" else None

    def zeros_like(self, p: Tensor) -> Tensor:
        """Return zeros with the shape, dtype and sharding of a parameter, in host memory."""
        return torch.zeros_like(p.detach(), device="cpu", pin_memory=self._streams is not None)

    def wait(self) -> None:
        """Wait until the state in host memory is that of the last update."""
        if self._streams is not None:
            self._streams[1].synchronize()

    def stream(self, states: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> Iterator[list[Piece]]:
        """Yield all elements of the given states, part by part. The caller changes the moments of a part in place,
        before it asks for the next part."""
        parameters = list(states)
        local = [[x.view(-1) for x in shards([states[p][key] for p in parameters])] for key in MOMENTS]
        if not self._buffers:
            self._allocate(local[0][0].dtype)
        if self._streams is not None:
            into, back = self._streams
            into.wait_stream(back)  # the state of the last update
        for number, part in enumerate(divided([x.numel() for x in local[0]], PART)):
            buffer = self._buffers[number % BUFFERS]
            host = [[moment[i][elements] for i, elements in part] for moment in local]
            device = [buffer.views(number, [x.numel() for x in xs]) for number, xs in enumerate(host)]
            self._copy(buffer, host, device)
            yield [Piece(parameters[i], s, *moments) for (i, s), *moments in zip(part, *device, strict=True)]
            self._copy_back(buffer, host, device)

    def _allocate(self, dtype: torch.dtype) -> None:
        self._buffers = [_Buffer(dtype, self.device) for _ in range(BUFFERS)]
        if self._streams is not None:  # earlier work may still use the memory
            self._streams[0].wait_stream(torch.cuda.current_stream(self.device))

    def _copy(self, buffer: _Buffer, host: list[list[Tensor]], device: list[list[Tensor]]) -> None:
        if self._streams is None:
            _copy_all(device, host)
            return
        into, _ = self._streams
        with torch.cuda.stream(into):
            into.wait_event(buffer.free)
            _copy_all(device, host)
            buffer.filled.record(into)
        torch.cuda.current_stream(self.device).wait_event(buffer.filled)

    def _copy_back(self, buffer: _Buffer, host: list[list[Tensor]], device: list[list[Tensor]]) -> None:
        if self._streams is None:
            _copy_all(host, device)
            return
        _, back = self._streams
        back.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(back):
            _copy_all(host, device)
            buffer.free.record(back)


def _copy_all(to: list[list[Tensor]], source: list[list[Tensor]]) -> None:
    for tensors, sources in zip(to, source, strict=True):
        for x, y in zip(tensors, sources, strict=True):
            x.copy_(y, non_blocking=True)


class _Buffer:
    """Memory on the device for one part: PART elements per moment. The moments do not share memory, because kernels are
    compiled for inputs that do not."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.memory = [torch.empty(PART, dtype=dtype, device=device) for _ in MOMENTS]
        cuda = device.type == "cuda"
        self.filled: Any = torch.cuda.Event() if cuda else None
        self.free: Any = torch.cuda.Event() if cuda else None

    def views(self, moment: int, sizes: Sequence[int]) -> list[Tensor]:
        """Return one view per size, each of them aligned."""
        found, start = [], 0
        for size in sizes:
            found.append(self.memory[moment][start : start + size])
            start += _rounded_up(size)
        return found
