"""Callbacks shared by all training stages: step log, progress bar, validation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from thinkling.data.atomic import replacing
from thinkling.data.seals import require_lines, seal
from thinkling.progress import Progress, Task
from thinkling.train.callback import Callback, SavedCheckpoint, StepMetrics

METRICS, LOG = "metrics.jsonl", "train.log.jsonl"
"""Logs with one line per step. metrics.jsonl is identical in every repetition of a run; train.log.jsonl contains times
and speeds."""

CHECKPOINTS = "checkpoints"
"""Subdirectory of a training stage in which its checkpoints are stored."""

SHOWN = 3
"""Maximum number of validation figures that are shown next to a progress bar."""

Logged = Callable[[int, StepMetrics], dict[str, Any]]
"""(step, metrics of the step) → JSON values that are written to metrics.jsonl for that step, in addition to loss,
learning rate and gradient norm."""


def count_and_sums(step: int, metrics: StepMetrics) -> dict[str, Any]:
    """Returns the number of loss tokens of the step, and the objective's metrics as sums."""
    return {"loss_tokens": metrics.n_tokens, **metrics.metrics}


def count_and_means(step: int, metrics: StepMetrics) -> dict[str, Any]:
    """Returns the number of loss tokens of the step, and the objective's metrics as means per loss token."""
    return {"loss_tokens": metrics.n_tokens, **{name: x / metrics.n_tokens for name, x in metrics.metrics.items()}}


def line_of(step: int, metrics: StepMetrics, lr: float, logged: Logged) -> dict[str, Any]:
    """Returns the line of metrics.jsonl for a step. If the run watches for spikes, `skipped` is 1 for a step that was
    skipped and 0 for other steps, and numbers of a skipped step that are not finite are null."""
    line = {"step": step, "loss": metrics.loss, "lr": lr, "grad_norm": metrics.grad_norm}
    if metrics.n_skipped is None:
        return {**line, **logged(step, metrics)}
    line = {**line, "skipped": int(metrics.skipped), **logged(step, metrics)}
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in line.items()}


def n_skipped(directory: Path) -> int:
    """Returns the number of steps of a finished stage that were skipped, from its metrics.jsonl."""
    return sum(json.loads(line).get("skipped", 0) for _, line in lines_by_step(directory / METRICS))


def checkpoint(directory: Path, first_step: int) -> Path:
    """Returns the path, inside a stage's directory, of the checkpoint from which training resumes at `first_step`."""
    return directory / CHECKPOINTS / f"step-{first_step:08d}"


def lines_by_step(path: Path) -> list[tuple[int, str]]:
    """Reads the lines of a log with their steps. Returns an empty list if the file is missing. Incomplete or corrupt
    lines are skipped; the caller compares the remaining lines with the checkpoint's digest."""
    text = path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
    found = []
    for line in text.split("\n"):
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(step, int):
            found.append((step, line))
    return found


class StepLog(Callback):
    """Writes metrics.jsonl and train.log.jsonl of a stage. The latter also records validations and checkpoints."""

    def __init__(
        self,
        directory: Path,
        tokens_per_step: Callable[[int], int],
        logged: Logged = count_and_sums,
        unit: str = "tokens",
        dry_run: Mapping[str, Any] | None = None,
    ) -> None:
        """`dry_run`: result of the dry-run step, for train.log.jsonl."""
        self.directory, self.tokens_per_step, self.logged, self.unit = directory, tokens_per_step, logged, unit
        self._dry_run = dry_run
        self._last = 0.0
        self._files: list[Any] = []

    def on_start(self, first_step: int) -> None:
        """Opens both files and removes the lines that a killed run wrote from `first_step` on, including incomplete
        lines.

        Raises UserError if metrics.jsonl differs from its state at the checkpoint.
        """
        for name in (METRICS, LOG):
            path = self.directory / name
            kept = "".join(line + "\n" for step, line in lines_by_step(path) if step < first_step)
            if name == METRICS:
                require_lines(kept.encode(), path, checkpoint(self.directory, first_step), self.directory)
            with replacing(path) as temporary:
                temporary.write_text(kept, encoding="utf-8")
            self._files.append(path.open("a", encoding="utf-8", buffering=1))
        if self._dry_run is not None:
            self._note({"step": first_step, **self._dry_run})
        self._last = time.monotonic()

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        self._files[0].write(json.dumps(line_of(step, metrics, lr, self.logged)) + "\n")
        seconds = self._seconds()
        speed = round(self.tokens_per_step(step) / seconds, 1)
        self._note({"step": step, "seconds": round(seconds, 5), f"{self.unit}_per_second": speed})

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        self._note({"step": step, "validation": dict(losses), "seconds": round(self._seconds(), 5)})

    def on_checkpoint(self, step: int, directory: Path) -> None:
        # The seal covers the lines until this step, however far training is when the checkpoint is complete.
        seal(self.directory / METRICS, directory)
        self._seconds()

    def on_checkpoint_saved(self, saved: SavedCheckpoint) -> None:
        found: dict[str, Any] = {"step": saved.steps - 1, "checkpoint": saved.path.name}
        found["blocked_seconds"] = round(saved.blocked_seconds, 5)
        found["write_seconds"] = round(saved.write_seconds, 5)
        found["bytes"] = sum(file.stat().st_size for file in saved.path.iterdir())
        self._note(found)
        self._seconds()

    def on_end(self) -> None:
        for file in self._files:
            file.close()

    def _note(self, line: dict[str, Any]) -> None:
        self._files[1].write(json.dumps(line) + "\n")

    def _seconds(self) -> float:
        """Seconds since the last call."""
        before, self._last = self._last, time.monotonic()
        return self._last - before


class ProgressBar(Callback):
    """Progress bar, measured in `unit`, that shows the loss, the learning rate and the latest validation figures."""

    def __init__(
        self, progress: Progress, label: str, amounts: Callable[[int], int], steps: range, unit: str = "tokens"
    ) -> None:
        """Each step advances the bar by `amounts(step)`. `steps` covers the whole run, including completed steps."""
        self.progress, self.label, self.amounts, self.steps, self.unit = progress, label, amounts, steps, unit
        self._stack = ExitStack()
        self._task: Task | None = None
        self._found: dict[str, float] = {}

    def on_start(self, first_step: int) -> None:
        done = sum(map(self.amounts, range(self.steps.start, first_step)))
        total = sum(map(self.amounts, self.steps))
        self._task = self._stack.enter_context(self.progress.track(self.label, total, self.unit, done))

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        assert self._task is not None
        skipped = {"skipped": metrics.n_skipped} if metrics.n_skipped else {}
        self._task.advance(self.amounts(step), loss=metrics.loss, lr=lr, **skipped, **self._found)
        if metrics.skipped and metrics.n_tokens:
            self.progress.warn(
                f"{self.label}: step {step} is a spike and was skipped (loss {metrics.loss:.4g}, gradient norm "
                f"{metrics.grad_norm:.4g})"
            )

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Shows the latest validation figures next to the bar, up to `SHOWN` of them."""
        self._found = {f"validation {name}": found for name, found in list(losses.items())[:SHOWN]}

    def on_end(self) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Validation:
    """Loss on text that is not used for training, measured after certain steps."""

    due: Callable[[int], bool]
    """Whether validation runs after the given step."""
    losses: Callable[[nn.Module], dict[str, float]]
    """Returns the mean loss per token of each source, on every rank."""


class RunValidation(Callback):
    """Runs validation when it is due and notifies the other callbacks."""

    def __init__(self, validation: Validation, model: nn.Module, listeners: Sequence[Callback]) -> None:
        self.validation, self.model, self.listeners = validation, model, listeners

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        if self.validation.due(step):
            losses = self.validation.losses(self.model)
            for listener in self.listeners:
                listener.on_validation(step, losses)
