"""The disk space that the stages still to run need, against what is free where runs are written."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from thinkling.data.artifact import Artifact, is_finished, read_manifest
from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.stage_space import CHECKPOINTS, Space, Spaces
from thinkling.stages.training.config import TrainingConfig

CLOSE = 0.9
"""Fraction of the free space above which the need counts as close to it."""


@dataclass(frozen=True)
class Needed:
    """Space needed and space free, in bytes."""

    most: float
    """An estimate on the upper side, of what is known."""
    surely: float
    """What weights and training states alone take."""
    stage: str
    """The stage that works when `surely` is reached."""
    unknown: tuple[str, ...]
    """What is not counted, since nothing says how large it is."""
    free: float
    directory: Path
    """The folder of runs."""

    @property
    def too_little(self) -> bool:
        """Whether the free space is surely not enough."""
        return self.surely > self.free

    @property
    def close(self) -> bool:
        """Whether the free space may not be enough."""
        return self.most > CLOSE * self.free

    def line(self) -> str:
        """`disk: about 41 GB needed, 120 GB free`, with what follows from it."""
        least = "at least" if self.unknown else "about"
        verdict = ": not enough" if self.too_little else ": may not be enough" if self.close else ""
        left_out = f" (not counted: {', '.join(self.unknown)})" if self.unknown else ""
        needed = shown(max(self.most, self.surely))
        return f"disk: {least} {needed} needed{left_out}, {shown(self.free)} free in {self.directory}{verdict}"


def needed(recipe: Recipe, root: Path, states: Iterable[tuple[str, str, Path | None]]) -> Needed:
    """What the stages that have not finished need beyond what they have written; `states` as `Run.states` gives them.

    Stages run one after another: what each keeps stays while the next ones work. Raises UserError where a source or a
    model that sizes follow from cannot be read.
    """
    spaces, unknown = Spaces(recipe), list[str]()
    kept = sure_kept = most = surely = 0.0
    stage = ""
    for name, state, path in states:
        if state == "skipped":
            continue
        if state == "done" and path is not None and is_finished(path):
            spaces.finished(name, Artifact(path, read_manifest(path)))
            continue
        space = spaces.of(name)
        written = _written(path)
        most = max(most, kept + space.peak - written)
        if sure_kept + space.sure_peak - written > surely:
            surely, stage = sure_kept + space.sure_peak - written, name
        kept += space.kept - written
        sure_kept += space.sure_kept - written
        unknown += space.unknown
    return Needed(max(most, 0.0), surely, stage, tuple(dict.fromkeys(unknown)), free(root), root)


def by_stage(recipe: Recipe, states: Iterable[tuple[str, str, Path | None]]) -> dict[str, Space]:
    """The space that each stage takes, finished or not, as it is estimated before the run."""
    spaces = Spaces(recipe)
    return {name: spaces.of(name) for name, state, _ in states if state != "skipped"}


def refuse(found: Needed, recipe: Recipe) -> None:
    """Raises UserError where the free space is surely not enough."""
    if not found.too_little:
        return
    config, cures = recipe.stages[found.stage], ["choose another folder with --runs"]
    if isinstance(config, TrainingConfig):
        if config.keep_state:
            cures.append(f"set stages.{found.stage}.keep_state: false")
        cures.append(
            f"raise stages.{found.stage}.checkpoint_every, so that fewer than {CHECKPOINTS} checkpoints are written"
        )
    raise UserError(
        f"{found.directory}: stages.{found.stage} needs at least {shown(found.surely)} for weights and checkpoints, "
        f"with the models of the stages before it, and {shown(found.free)} are free; make room, "
        f"{', or '.join(cures)}"
    )


def free(root: Path) -> float:
    """Bytes that are free in a folder, or where it would be made."""
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def shown(size: float) -> str:
    """`41 GB`, `3.2 MB`."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= scale:
            return f"{size / scale:.{0 if size >= 10 * scale else 1}f} {unit}"
    return f"{size / 1e6:.1f} MB"


def _written(path: Path | None) -> float:
    """Bytes in the directory of a stage that was cut off."""
    partial = None if path is None else path.with_name(path.name + ".partial")
    if partial is None or not partial.is_dir():
        return 0.0
    return float(sum(file.lstat().st_size for file in partial.rglob("*") if file.is_file()))
