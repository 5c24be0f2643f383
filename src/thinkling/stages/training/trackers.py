"""TensorBoard and Weights & Biases. Both packages load where they are used; neither writes into an artifact."""

from __future__ import annotations

import importlib.util
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from thinkling.errors import UserError
from thinkling.stages.base import StageContext
from thinkling.stages.training.callbacks import Logged, line_of
from thinkling.stages.training.config import TENSORBOARD, WANDB, TrackersConfig, WandbConfig
from thinkling.train.callback import Callback, StepMetrics


def check_installed(config: TrackersConfig) -> None:
    """Raises UserError that names the field of a tracker whose package is missing."""
    for name, wanted in ((TENSORBOARD, config.tensorboard), (WANDB, config.wandb is not None)):
        if wanted and importlib.util.find_spec(name) is None:
            raise UserError(f"trackers.{name}: package {name} is not installed; pip install 'thinkling[track]'")


def make_trackers(
    ctx: StageContext, tokens_per_step: Callable[[int], int], logged: Logged, unit: str
) -> list[Callback]:
    """The trackers that the recipe asks for, of one stage."""
    config = ctx.trackers
    found: list[Callback] = []
    if config is not None and config.tensorboard:
        found.append(TensorBoard(ctx.directory.parent / TENSORBOARD / ctx.name, tokens_per_step, logged, unit))
    if config is not None and config.wandb is not None:
        found.append(Wandb(config.wandb, ctx, tokens_per_step, logged, unit))
    return found


def scalars(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line of metrics.jsonl, but for its step; those of a mapping as `name/key`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value


class Tracker(Callback, ABC):
    """Sends everything that metrics.jsonl holds, the speed, validation losses and checkpoints to `_log`."""

    def __init__(self, tokens_per_step: Callable[[int], int], logged: Logged, unit: str) -> None:
        self._tokens_per_step, self._logged, self._unit = tokens_per_step, logged, unit
        self._last = 0.0

    def on_start(self, first_step: int) -> None:
        self._last = time.monotonic()

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        now = time.monotonic()
        speed = self._tokens_per_step(step) / (now - self._last)
        self._last = now
        values = dict(scalars(line_of(step, metrics, lr, self._logged)))
        self._log(step, values | {f"{self._unit}_per_second": speed})

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        self._log(step, {f"validation/{source}": loss for source, loss in losses.items()})
        self._last = time.monotonic()

    def on_checkpoint(self, step: int, path: Path) -> None:
        self._log(step, {"checkpoint": step + 1})
        self._last = time.monotonic()

    @abstractmethod
    def _log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends numbers of a step."""


class TensorBoard(Tracker):
    """Event files. A resumed run hides what a killed one had logged after its last checkpoint."""

    def __init__(
        self, directory: Path, tokens_per_step: Callable[[int], int], logged: Logged, unit: str = "tokens"
    ) -> None:
        super().__init__(tokens_per_step, logged, unit)
        self.directory = directory
        self._writer: Any = None

    def on_start(self, first_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        before = self.directory.is_dir() and any(self.directory.iterdir())
        self._writer = SummaryWriter(str(self.directory), purge_step=first_step if before else None)
        super().on_start(first_step)

    def on_checkpoint(self, step: int, path: Path) -> None:
        super().on_checkpoint(step, path)
        # A run that is killed later continues after this step, so all before it must be on the disk.
        self._writer.flush()

    def on_end(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)


class Wandb(Tracker):
    """A run of Weights & Biases. A resumed stage continues it, under the id that the first attempt drew."""

    def __init__(
        self, config: WandbConfig, ctx: StageContext, tokens_per_step: Callable[[int], int], logged: Logged, unit: str
    ) -> None:
        super().__init__(tokens_per_step, logged, unit)
        self.config, self.ctx = config, ctx
        self._run: Any = None

    def on_start(self, first_step: int) -> None:
        import wandb
        from wandb.errors import Error

        run_directory = self.ctx.directory.parent
        folder = run_directory / WANDB
        folder.mkdir(exist_ok=True)
        try:
            self._run = wandb.init(
                project=self.config.project,
                entity=self.config.entity,
                mode=self.config.mode,
                name=f"{run_directory.name}/{self.ctx.name}",
                group=run_directory.name,
                id=_id_of(folder / f"{self.ctx.directory.name.removesuffix('.partial')}.id"),
                resume="allow" if self.config.mode == "online" else None,
                dir=str(run_directory),
                save_code=False,
                settings=wandb.Settings(console="off", disable_git=True, silent=True),
            )
        except Error as error:
            raise UserError(f"trackers.wandb: {error}; log in with `wandb login`, or set mode: offline") from error
        super().on_start(first_step)

    def on_end(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)


def _id_of(path: Path) -> str:
    """The id in a file; drawn and written there the first time."""
    if not path.exists():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8")
