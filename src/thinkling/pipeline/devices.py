"""What `doctor` reports about GPUs: cards, versions, the kernels that training will use, and what compiling needs."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from thinkling.pipeline.finding import Finding
from thinkling.pipeline.recipe import Recipe
from thinkling.stages.training.config import TrainingConfig

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of GPU drivers: NVIDIA's, Windows's for Linux, and AMD's."""


class Card(NamedTuple):
    """The GPU at hand. If there are several, the one with the least memory."""

    name: str
    memory: int
    """Memory in bytes."""
    count: int = 1
    """Number of GPUs."""


def card() -> Card | None:
    """Returns the GPU of this machine, if there is one. Without a driver, torch is not imported, which takes a
    second."""
    if not any(Path(file).exists() for file in _DRIVERS) or importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return min((Card(one.name, one.total_memory, len(found)) for one in found), key=lambda one: one.memory)


def devices(recipe: Recipe | None) -> list[Finding]:
    """Returns findings about the devices of this machine. Without torch, there are none."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    if not torch.cuda.is_available():
        return [Finding("devices", "ok", "no CUDA device; everything runs on the CPU")]
    cards = [_card(i) for i in range(torch.cuda.device_count())]
    found = [Finding("devices", "ok", ", ".join(cards)), Finding("CUDA", "ok", _versions()), _attention()]
    return found + (_compiling(recipe) if recipe else [])


def precision(recipe: Recipe) -> list[Finding]:
    """Returns a finding if stages compute in bf16 on a device without hardware support for bf16."""
    stages = [(name, s) for name, s in recipe.stages.items() if isinstance(s, TrainingConfig)]
    names = [name for name, config in stages if config.precision.compute == "bfloat16"]
    if not names or importlib.util.find_spec("torch") is None:
        return []
    import torch

    if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        return []
    device = "this GPU" if torch.cuda.is_available() else "a CPU"
    overrides = " ".join(f"--set stages.{name}.precision.compute=float32" for name in names)
    return [
        Finding("precision", "note", f"{', '.join(names)}: bfloat16 may be many times slower on {device}: {overrides}")
    ]


def _card(index: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return (
        f"{properties.name} ({total / 2**30:.0f} GiB, {free / 2**30:.0f} GiB free, compute capability "
        f"{properties.major}.{properties.minor})"
    )


def _versions() -> str:
    import torch

    driver: Any = torch._C._cuda_getDriverVersion()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    parts = [f"torch {torch.__version__}", f"driver for CUDA {driver // 1000}.{driver % 1000 // 10}"]
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        parts.append("NCCL " + ".".join(map(str, torch.cuda.nccl.version())))  # pyright: ignore[reportAttributeAccessIssue]
    return ", ".join(parts)


def _attention() -> Finding:
    """Which of torch's kernels compute attention in bf16."""
    import torch

    x = torch.empty(1, 2, 128, 128, dtype=torch.bfloat16, device="cuda")
    call = torch.backends.cuda.SDPAParams(x, x, x, None, 0.0, True, True)
    kernels = {
        "cuDNN": torch.backends.cuda.can_use_cudnn_attention(call),
        "flash": torch.backends.cuda.can_use_flash_attention(call),
    }
    usable = [name for name, can in kernels.items() if can]
    if not kernels["flash"]:
        return Finding("attention", "note", "no flash kernel on this card, so packed rows are slow: use a newer card")
    return Finding("attention", "ok", f"rows of one document: {usable[0]}; packed rows: flash (with compute: bfloat16)")


def _compiling(recipe: Recipe) -> list[Finding]:
    """What `compile: true` needs beyond torch."""
    names = [name for name, s in recipe.stages.items() if isinstance(s, TrainingConfig) and s.compile]
    lacking = [] if importlib.util.find_spec("triton") else ["the package triton"]
    if not any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang")):
        lacking.append("a C compiler (cc, gcc or clang)")
    if not names or not lacking:
        return []
    overrides = " ".join(f"--set stages.{name}.compile=false" for name in names)
    return [Finding("compile", "missing", f"{', '.join(names)}: needs {' and '.join(lacking)}; or {overrides}")]
