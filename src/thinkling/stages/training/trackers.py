"""TensorBoard, Weights & Biases, and the base class of other trackers. Trackers never write into an artifact."""

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
from thinkling.stages.training.config import TRACKERS, TrackersConfig
from thinkling.train.callback import Callback, SavedCheckpoint, StepMetrics


def check_installed(config: TrackersConfig) -> None:
    """Raises UserError with the tracker's field if an enabled tracker cannot be used on this machine."""
    for name, settings in config.chosen().items():
        kind = TRACKERS.resolve(name)
        if not (isinstance(kind, type) and issubclass(kind, Tracker)):
            raise UserError(f"trackers.{name}: its entry point is {kind!r}, not a subclass of Tracker; fix the package")
        try:
            kind.check(settings)
        except UserError as error:
            raise UserError(f"trackers.{name}: {error}") from error


def make_trackers(
    ctx: StageContext, tokens_per_step: Callable[[int], int], logged: Logged, unit: str
) -> list[Callback]:
    """Creates the trackers that the recipe enables, for one stage."""
    chosen = ctx.trackers.chosen() if ctx.trackers is not None else {}
    return [TRACKERS.resolve(name)(settings, ctx, tokens_per_step, logged, unit) for name, settings in chosen.items()]


def scalars(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the numbers in a line of metrics.jsonl, except for the step. Numbers inside a mapping are named
    `name/key`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value


class Tracker(Callback, ABC):
    """Base class of trackers, which passes all numbers in metrics.jsonl, the speed, validation losses and checkpoints
    to `log`.

    `settings`: the tracker's entry in the recipe's `trackers`. A tracker that writes files must write them to a
    directory with the tracker's name, next to the directories of the stages (`ctx.directory.parent`). Trackers are
    created on rank 0 only.
    """

    def __init__(
        self, settings: Any, ctx: StageContext, tokens_per_step: Callable[[int], int], logged: Logged, unit: str
    ) -> None:
        self.settings, self.ctx = settings, ctx
        self._tokens_per_step, self._logged, self._unit = tokens_per_step, logged, unit
        self._last = 0.0

    @classmethod
    def check(cls, settings: Any) -> None:
        """Checks the settings before anything runs. Raises UserError if they are invalid or a package is missing."""

    def on_start(self, first_step: int) -> None:
        self._last = time.monotonic()

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        now = time.monotonic()
        speed = self._tokens_per_step(step) / (now - self._last)
        self._last = now
        values = dict(scalars(line_of(step, metrics, lr, self._logged)))
        self.log(step, values | {f"{self._unit}_per_second": speed})

    def on_validation(self, step: int, losses: Mapping[str, float]) -> None:
        self.log(step, {f"validation/{source}": loss for source, loss in losses.items()})
        self._last = time.monotonic()

    def on_checkpoint(self, step: int, directory: Path) -> None:
        self.log(step, {"checkpoint": step + 1})
        self._last = time.monotonic()

    def on_checkpoint_saved(self, saved: SavedCheckpoint) -> None:
        self._last = time.monotonic()

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the numbers of a step: name → value. May be called several times per step, with different names."""


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(f"package {package} is not installed; run pip install 'thinkling[track]'")


class TensorBoard(Tracker):
    """Writes event files. A resumed run hides the values that the killed run logged after its last checkpoint."""

    _writer: Any = None

    @classmethod
    def check(cls, settings: Any) -> None:
        _require("tensorboard")

    def on_start(self, first_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        directory = self.ctx.directory.parent / "tensorboard" / self.ctx.name
        before = directory.is_dir() and any(directory.iterdir())
        self._writer = SummaryWriter(str(directory), purge_step=first_step if before else None)
        super().on_start(first_step)

    def on_checkpoint(self, step: int, directory: Path) -> None:
        super().on_checkpoint(step, directory)
        # A run that is killed later resumes after this step, so all values logged until now must be on disk.
        self._writer.flush()

    def on_end(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)


class Wandb(Tracker):
    """Logs to a Weights & Biases run. A resumed stage continues the W&B run of its first attempt, which stored the id
    of that run on disk."""

    _run: Any = None

    @classmethod
    def check(cls, settings: Any) -> None:
        _require("wandb")

    def on_start(self, first_step: int) -> None:
        import wandb
        from wandb.errors import Error

        run_directory = self.ctx.directory.parent
        folder = run_directory / "wandb"
        folder.mkdir(exist_ok=True)
        try:
            self._run = wandb.init(
                project=self.settings.project,
                entity=self.settings.entity,
                mode=self.settings.mode,
                name=f"{run_directory.name}/{self.ctx.name}",
                group=run_directory.name,
                id=_id_of(folder / f"{self.ctx.directory.name.removesuffix('.partial')}.id"),
                resume="allow" if self.settings.mode == "online" else None,
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

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)


def _id_of(path: Path) -> str:
    """Returns the id stored in a file. On the first call, the id is drawn and stored."""
    if not path.exists():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8")
