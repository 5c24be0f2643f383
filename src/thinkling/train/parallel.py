"""Training in one or more processes: torchrun's environment, sharding with FSDP2, and the all-reduce of each step.

Without torchrun, torch.distributed is not used. Under torchrun, each rank uses either one GPU, and NCCL, or the CPU,
and gloo. Every rank must process the same number of micro-batches per step, because ranks communicate in each forward
and backward pass.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.model.device import default_device

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of a model, which are the members of its ModuleLists. The layers are sharded one by
    one, and Muon optimizes their matrices."""
    return [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]


def shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return this rank's parts of sharded tensors. Plain tensors are returned unchanged."""
    from torch.distributed.tensor import DTensor

    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


_meshes: list[DeviceMesh] = []


@dataclass(frozen=True)
class Parallel:
    """The rank of this process, its device, and the number of processes of the run."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def shard(self, model: nn.Module, compute: torch.dtype | None = None) -> nn.Module:
        """Move the model to the device. With several ranks, also shard the model in place, first each layer and then
        the rest.

        The weights must be the same on all ranks. Gradients of the sharded model are *sums* over ranks (FSDP2's default
        is the mean), because the number of loss tokens may differ between ranks: the trainer divides once, by the
        number of loss tokens on all ranks. `compute`: dtype in which sharded weights are gathered, by default their own
        dtype. Gradients are summed in fp32.
        """
        model.to(self.device)
        if self.world_size == 1:
            return model
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(self.device.type, (self.world_size,))
        _meshes.append(mesh)
        policy = MixedPrecisionPolicy()
        if {compute, *(p.dtype for p in model.parameters())} - {None, torch.float32}:
            policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
        for module in [*layers(model), model]:
            fully_shard(module, mesh=mesh, mp_policy=policy)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                # gloo does not support scaled sums; with NCCL, FSDP2 would use a scaled sum even for a factor of 1.
                module.set_force_sum_reduction_for_comms(True)
        return model

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x may have any shape, which must be the same on all ranks."""
        if self.world_size > 1:
            dist.all_reduce(x)
        return x

    def barrier(self) -> None:
        """Wait until every rank has called this method."""
        if self.world_size > 1:
            dist.barrier()


def setup() -> Parallel:
    """Join the run that torchrun started, or, without torchrun, set up a single process. Every stage calls this
    function before it creates a model.

    Raises UserError if torchrun started more processes on this machine than the machine has GPUs.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = default_device().type == "cuda"
    if cuda and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"--nproc-per-node: process {local_rank} has no GPU, because this machine has only "
            f"{torch.cuda.device_count()}; start one process per GPU"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world_size == 1:
        return Parallel(device=device)
    if not dist.is_initialized():
        # gloo is needed in addition to NCCL, because checkpointing exchanges plans that are in host memory.
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", device_id=device if cuda else None)
        if not cuda:  # close the group however the process ends; closing NCCL would wait for failed ranks
            atexit.register(close)
    return Parallel(dist.get_rank(), world_size, device)


def close() -> None:
    """Leave the process group, if there is one, and wait until its threads have ended."""
    if dist.is_initialized():
        dist.destroy_process_group()
    # DTensor's caches keep meshes alive after their models, and meshes keep the group alive. The group's gloo threads
    # would then release the last tensors during interpreter shutdown, and the finished process would abort
    # (pytorch/pytorch#179291).
    while _meshes:
        _meshes.pop()._pg_registry.clear()  # pyright: ignore[reportPrivateUsage]
    gc.collect()
