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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.model.device import default_device
from thinkling.train.config import ParallelConfig

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
_checkpoint_groups: list[dist.ProcessGroup] = []
"""The process group of `Parallel.for_checkpoints`, which is created once."""


@dataclass(frozen=True)
class Parallel:
    """The rank of this process, its device, the number of processes of the run, and how they share the model."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    config: ParallelConfig = field(default_factory=ParallelConfig)
    group: dist.ProcessGroup | None = None
    """Process group of the methods that communicate; by default, torch's default group."""

    @property
    def shard_rank(self) -> int:
        """Number of this rank's shard. It is the same on the ranks that have copies of a shard."""
        return self.rank % (self.world_size // self.config.replicas)

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
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy()
        if {compute, *(p.dtype for p in model.parameters())} - {None, torch.float32}:
            policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
        mesh, blocks = self._mesh(), layers(model)
        for layer in blocks:
            # None is FSDP2's default, which is true for layers.
            reshard = None if self.config.reshard_after_forward else False
            fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)
        # The other weights stay gathered after the forward pass, because objectives use the weights of the head.
        fully_shard(model, mesh=mesh, mp_policy=policy)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                # gloo does not support scaled sums; with NCCL, FSDP2 would use a scaled sum even for a factor of 1.
                module.set_force_sum_reduction_for_comms(True)
        self._prefetch(blocks)
        return model

    def _mesh(self) -> DeviceMesh:
        """Return the mesh of all ranks, with two dimensions if there are replicas."""
        from torch.distributed.device_mesh import init_device_mesh

        replicas = self.config.replicas
        if replicas == 1:
            mesh = init_device_mesh(self.device.type, (self.world_size,))
        else:
            shape, names = (replicas, self.world_size // replicas), ("replicate", "shard")
            mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        _meshes.append(mesh)
        return mesh

    def _prefetch(self, blocks: Sequence[nn.Module]) -> None:
        """Make each sharded layer gather the weights of the next `prefetch` layers, in both directions."""
        from torch.distributed.fsdp import FSDPModule

        n = self.config.prefetch
        sharded: list[FSDPModule] = [layer for layer in blocks if isinstance(layer, FSDPModule)]
        for i, layer in enumerate(sharded if n else []):
            following, preceding = sharded[i + 1 : i + 1 + n], sharded[max(0, i - n) : i][::-1]
            if following:
                layer.set_modules_to_forward_prefetch(following)
            if preceding:
                layer.set_modules_to_backward_prefetch(preceding)

    def for_checkpoints(self) -> Parallel:
        """Return the same ranks with a gloo process group of their own, so that a thread can write checkpoints while
        training communicates. All ranks must call this method, in the thread that trains."""
        if self.world_size == 1:
            return self
        if not _checkpoint_groups:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup)
            _checkpoint_groups.append(group)
        return replace(self, group=_checkpoint_groups[0])

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x may have any shape, which must be the same on all ranks."""
        if self.world_size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def barrier(self) -> None:
        """Wait until every rank has called this method."""
        if self.world_size > 1:
            dist.barrier(self.group)


def setup(config: ParallelConfig | None = None) -> Parallel:
    """Join the run that torchrun started, or, without torchrun, set up a single process. Every stage calls this
    function before it creates a model. `config`: how the ranks share the model.

    Raises UserError if torchrun started more processes on this machine than the machine has GPUs, or if `replicas` does
    not divide the number of processes.
    """
    config = config or ParallelConfig()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if reason := config.mismatch(world_size):
        raise UserError(reason)
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
    return Parallel(dist.get_rank(), world_size, device, config)


def close() -> None:
    """Leave the process group, if there is one, and wait until its threads have ended."""
    if dist.is_initialized():
        dist.destroy_process_group()
    _checkpoint_groups.clear()
    # DTensor's caches keep meshes alive after their models, and meshes keep the group alive. The group's gloo threads
    # would then release the last tensors during interpreter shutdown, and the finished process would abort
    # (pytorch/pytorch#179291).
    while _meshes:
        _meshes.pop()._pg_registry.clear()  # pyright: ignore[reportPrivateUsage]
    gc.collect()
