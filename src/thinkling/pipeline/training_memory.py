"""Predicted memory of the training stages of a recipe, on the GPU at hand or on the recipe's hardware."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import get_args

from rich.console import Console
from rich.table import Table

from thinkling.pipeline.devices import card
from thinkling.pipeline.model_shape import model_of
from thinkling.pipeline.recipe import HardwareConfig, Recipe
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.training.config import TrainingConfig
from thinkling.stages.training.fitting import (
    FITS,
    MODES,
    REFUSED,
    StageMemory,
    cures,
    gib,
    grid,
    sentence,
    stage_memory,
)
from thinkling.stages.training.memory import BYTES, GIB, Part, Training, predict


@dataclass(frozen=True)
class Device:
    """The device for which memory is predicted."""

    name: str
    memory: float | None
    """Memory in bytes, if it is known."""
    on_gpu: bool
    ranks: int
    """Number of processes."""
    at_hand: bool
    """Whether it is a GPU of this machine."""
    most_ranks: int = 1
    """Largest number of processes, if torchrun has not started any yet: one per GPU."""


def device_of(recipe: Recipe) -> Device:
    """Return the GPU of this machine. Without a GPU, return the recipe's hardware if its memory is known or if the
    recipe can only be planned, and otherwise the CPU."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if found := card():
        most = processes if "WORLD_SIZE" in os.environ else found.count
        return Device(found.name, found.memory, True, processes, True, most)
    hardware = recipe.hardware
    if hardware.memory_gib is not None or recipe.plan_only:
        memory = hardware.memory_gib * GIB if hardware.memory_gib is not None else None
        return Device(hardware.name, memory, True, hardware.devices, False)
    return Device("CPU", None, False, processes, False)


def memories(
    recipe: Recipe, stages: Iterable[str], device: Device, sure: bool = False
) -> Iterator[tuple[str, StageMemory]]:
    """Yield the training steps of each training stage whose model is known. `sure`: see
    `TrainingConfig.largest_batches`."""
    for name in stages:
        config = recipe.stages[name]
        if not isinstance(config, TrainingConfig):
            continue
        model = model_of(recipe, name)
        if model is not None and model.vocab_size is None and recipe.tokenizer is not None:
            model = model.model_copy(update={"vocab_size": getattr(recipe.tokenizer, "vocab_size", None)})
        # The layers of a package may keep more or less than the project's layers.
        if model is not None and model.vocab_size is not None and model.features.layer is None:
            frozen = _teacher(recipe, name)
            yield name, stage_memory(config, model, device.ranks, device.on_gpu, sure, frozen)


def _teacher(recipe: Recipe, name: str) -> int:
    """Return the bytes of the teacher's weights. A model from a file is taken to be in bf16."""
    config = recipe.stages[name]
    producer = config.inputs.get("teacher")
    if not isinstance(config, DpdConfig) or producer is None:
        return 0
    teacher, stage = model_of(recipe, name, "teacher"), recipe.stages.get(producer)
    if teacher is None or teacher.vocab_size is None:
        return 0
    dtype = stage.precision.weights if isinstance(stage, TrainingConfig) else "bfloat16"
    return BYTES[dtype] * teacher.parameter_count()


def too_large(recipe: Recipe, stages: Iterable[str]) -> Iterator[str]:
    """Yield an error message for each training stage that cannot run on the GPUs at hand, by a clear margin and for any
    data. Without torchrun, stages that fit with one process per GPU are not refused, because the recipe may be meant
    for torchrun."""
    device = device_of(recipe)
    capacity = device.memory
    if not device.at_hand or capacity is None:
        return
    device = replace(device, ranks=device.most_ranks)
    largest = dict(memories(recipe, stages, device))
    for name, memory in memories(recipe, stages, device, sure=True):
        peak = predict(memory.worst).peak
        if peak > REFUSED * capacity:
            found = cures(largest[name], largest[name].worst, FITS * capacity)
            yield (
                f"stages.{name}: a training step needs at least {gib(peak)} per GPU ({_parts(memory.worst)}), but "
                f"{device.name} has {gib(capacity)}; {sentence(found)}"
            )


def _parts(training: Training) -> str:
    return ", ".join(f"{name} {gib(size)}" for name, size in predict(training).parts.items() if size > 0.01 * GIB)


def show_memory(recipe: Recipe, console: Console) -> None:
    """Print the predicted memory of each training stage by part, what fits, and the time of a step."""
    device = device_of(recipe)
    found = dict(memories(recipe, recipe.stages, device))
    if not found:
        return
    console.print(_table(found, device))
    for name, memory in found.items():
        if device.memory is not None:
            console.print(f"  {name}: {_fitting(memory, device.memory)}", highlight=False, soft_wrap=True)
        if device.on_gpu and (seconds := _seconds(memory.worst, recipe.hardware)):
            console.print(
                f"  {name}: {seconds:,.3g} s per step of these rows at an assumed MFU of {recipe.hardware.mfu:.0%} of "
                f"{recipe.hardware.peak_flops:.3g} FLOP/s; train.log.jsonl has the measured times",
                highlight=False,
            )


def _table(found: dict[str, StageMemory], device: Device) -> Table:
    worst = {name: (memory.worst.batch, predict(memory.worst)) for name, memory in found.items()}
    parts = [part for part in get_args(Part) if any(part in prediction.parts for _, prediction in worst.values())]
    unit, name = (GIB, "GiB") if max(prediction.peak for _, prediction in worst.values()) >= GIB else (2**20, "MiB")
    size = f" with {gib(device.memory)}" if device.memory is not None else ""
    title = f"predicted memory per GPU ({device.name}{size}), {name}" if device.on_gpu else f"predicted memory, {name}"
    table = Table(title=title, title_justify="left")
    table.add_column("stage", overflow="fold")
    table.add_column("rows × length", overflow="fold")
    for column in (*parts, "peak"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage, (batch, prediction) in worst.items():
        sizes = [prediction.parts.get(part, 0.0) for part in parts]
        shown = [f"{size / unit:.2f}" if size < unit else f"{size / unit:,.1f}" for size in (*sizes, prediction.peak)]
        table.add_row(stage, f"{batch.rows:,} × {batch.length:,}", *shown)
    return table


def _fitting(memory: StageMemory, capacity: float) -> str:
    """Whether the stage fits, and the largest micro-batch that fits for each value of `recompute`. If there is none,
    other settings that fit."""
    share = predict(memory.worst).peak / capacity
    verdict = "fits" if share <= FITS else "does not fit" if share > REFUSED else "may not fit"
    best: dict[str, str] = {}
    for choice in grid(memory.worst):  # the largest micro-batch comes first
        if choice.peak <= FITS * capacity:
            best.setdefault(choice.changes[0], choice.text)
    if not best:
        return f"{verdict}; {sentence(cures(memory, memory.worst, FITS * capacity))}"
    shown = "; ".join(best[name] for mode in MODES if (name := f"recompute: {mode}") in best)
    return f"{verdict}; the largest that fit: {shown}"


def _seconds(t: Training, hardware: HardwareConfig) -> float | None:
    """Return the duration of a step if all its rows are as long as the longest."""
    if t.loss != "next_token":
        return None
    model = t.model
    flops = model.flops_per_token(t.batch.length)
    if t.lora is not None:  # frozen weights have no gradients
        flops -= 2.0 * (model.non_embedding_parameter_count() + model.known_vocab_size * model.hidden_size)
    return flops * t.batch.tokens * t.batch.micro_batches / (hardware.peak_flops * hardware.mfu)
