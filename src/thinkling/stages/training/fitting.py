"""Whether a stage's training steps fit in the memory of a device, and with which settings they would. This module does
not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from thinkling.model.config import LoraConfig, ModelConfig
from thinkling.stages.training.config import PostTrainingConfig, TrainingConfig
from thinkling.stages.training.memory import GIB, Batch, Training, predict
from thinkling.train.config import PrecisionConfig, Recompute

FITS, REFUSED = 0.95, 1.1
"""A step is reported to fit if its predicted peak is at most this fraction of the memory, because allocated memory is
fragmented, and to be impossible if it is larger than the second fraction. In between, only a run can tell."""
MODES: tuple[Recompute, ...] = ("none", "selective", "full")
BF16 = PrecisionConfig(compute="bfloat16", weights="bfloat16")
_SHOWN = 3


@dataclass(frozen=True)
class StageMemory:
    """The training steps of a stage, for predictions of their memory."""

    trainings: tuple[Training, ...]
    """One training per shape of micro-batches, in the order of their first step."""
    can_adapt: bool = False
    """Whether the stage has the field `lora`."""
    ranked: bool = True
    """Whether several processes can run the stage."""

    @property
    def batches(self) -> list[Batch]:
        return [training.batch for training in self.trainings]

    @property
    def worst(self) -> Training:
        """The training with the largest predicted peak."""
        return max(self.trainings, key=lambda training: predict(training).peak)


def stage_memory(
    config: TrainingConfig, model: ModelConfig, ranks: int, on_gpu: bool, sure: bool = False, frozen_bytes: int = 0
) -> StageMemory:
    """Returns the training steps of a stage with `ranks` processes. `sure`: see `TrainingConfig.largest_batches`.
    `frozen_bytes`: see `Training`."""
    ranks = ranks if config.distributed else 1
    adapted = config.lora if isinstance(config, PostTrainingConfig) else None
    trainings = [
        Training(
            model=model,
            batch=batch,
            precision=config.precision,
            optimizer=config.optimizer.name,
            recompute=config.recompute,
            compiled=config.compile and on_gpu,
            lora=adapted,
            ranks=max(1, ranks // config.parallel.replicas),
            on_gpu=on_gpu,
            loss=config.loss,
            averaged=getattr(config, "average", None) is not None,
            frozen_bytes=frozen_bytes,
            offload=config.optimizer.offload,
        )
        for batch in config.largest_batches(ranks, sure)
    ]
    return StageMemory(tuple(trainings), isinstance(config, PostTrainingConfig), config.distributed)


class Choice(NamedTuple):
    """Changes of a stage's fields, such as `recompute: full`, and the training with them."""

    changes: tuple[str, ...]
    training: Training

    @property
    def peak(self) -> float:
        return predict(self.training).peak

    @property
    def text(self) -> str:
        return f"{' and '.join(self.changes)} ({gib(self.peak)})"


def gib(size: float) -> str:
    """Returns a size in GiB, as it is printed."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / GIB:.2g} GiB"


def grid(training: Training) -> list[Choice]:
    """Returns every combination of `recompute` with the size of a micro-batch, from a single micro-batch per update
    down to the smallest micro-batch, by halves."""
    batch = training.batch
    if batch.field == "micro_batch_size":
        training = replace(training, batch=batch.with_items(batch.items * batch.micro_batches, 1))
    sizes = [training, *_smaller(training)]
    return [
        Choice((f"recompute: {mode}", *([_rows(one)] if batch.field else [])), replace(one, recompute=mode))
        for one in sizes
        for mode in MODES
    ]


def cures(memory: StageMemory, training: Training, limit: float) -> list[Choice]:
    """Returns up to three choices whose predicted peak is at most `limit`, the least intrusive first."""
    found: list[Choice] = []
    for choice in _choices(memory, training):
        if choice.peak <= limit and not any(set(known.changes) <= set(choice.changes) for known in found):
            found.append(choice)
        if len(found) == _SHOWN:
            break
    return found


def sentence(choices: list[Choice]) -> str:
    """Returns the cure for an error message."""
    if not choices:
        return "no recomputation, micro-batch, precision or number of processes would be enough; use a smaller model"
    return "use " + ", or ".join(choice.text for choice in choices)


def _choices(memory: StageMemory, t: Training) -> Iterator[Choice]:
    stronger = MODES[MODES.index(t.recompute) + 1 :]
    for mode in stronger:
        yield Choice((f"recompute: {mode}",), replace(t, recompute=mode))
    smaller = _smaller(t)
    for one in smaller:
        yield Choice((_rows(one),), one)
    yield from _lower(t)
    if t.on_gpu and t.optimizer == "adamw" and not t.offload:
        yield Choice(("optimizer.offload: true",), replace(t, offload=True))
    least, changes = (smaller[-1], (_rows(smaller[-1]),)) if smaller else (t, ())
    if stronger:
        least, changes = replace(least, recompute="full"), (*changes, "recompute: full")
        yield Choice(changes, least)
    for lower in _lower(least):
        yield Choice((*changes, *lower.changes), lower.training)
    if memory.can_adapt and t.lora is None and t.optimizer != "muon":
        adapted = replace(least, lora=LoraConfig())
        yield Choice((*changes, "lora: {rank: 16}"), adapted)
        for lower in _lower(adapted):
            yield Choice((*changes, "lora: {rank: 16}", *lower.changes), lower.training)
    for ranks in (2, 4, 8, 16, 32, 64):
        if memory.ranked and ranks > t.ranks and t.optimizer != "muon":
            yield Choice((*changes, f"{ranks} processes"), replace(least, ranks=ranks))


def _lower(t: Training) -> Iterator[Choice]:
    """The same training in lower precision, which Muon supports for the computation alone."""
    if t.on_gpu and t.precision.compute == "float32":
        precision = t.precision.model_copy(update={"compute": "bfloat16"})
        yield Choice(("precision.compute: bfloat16",), replace(t, precision=precision))
    if t.on_gpu and t.precision.weights == "float32":
        optimizer = ("optimizer.name: adamw",) if t.optimizer == "muon" else ()
        changes = (*optimizer, "precision: {compute: bfloat16, weights: bfloat16}")
        yield Choice(changes, replace(t, precision=BF16, optimizer="adamw"))


def _rows(t: Training) -> str:
    return f"{t.batch.field}: {t.batch.items}"


def _smaller(t: Training) -> list[Training]:
    """The same training with smaller micro-batches."""
    found: list[Training] = []
    batch = t.batch
    items, total = batch.items, batch.items * batch.micro_batches
    while batch.field is not None and items > batch.least:
        items = max(-(-items // 2), batch.least)
        found.append(replace(t, batch=batch.with_items(items, -(-total // items))))
    return found
