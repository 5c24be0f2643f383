"""The disk space that the unfinished stages of a run need, compared with the free space in the folder of runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinkling.data.artifact import Artifact, is_finished, read_manifest
from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.stage_space import CHECKPOINTS, Spaces, size_of
from thinkling.stages.curate import parts
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.training.config import TrainingConfig

if TYPE_CHECKING:
    from thinkling.pipeline.runner import Run

CLOSE = 0.9
"""Fraction of the free space above which an estimate of the needed space causes a warning."""


@dataclass(frozen=True)
class Needed:
    """Space needed and space free, in bytes."""

    most: float
    """Estimate of the space needed, on the high side, without the data in `unknown`."""
    surely: float
    """Space needed by weights and training states alone, which is known exactly."""
    stage: str
    """The stage during which `surely` is reached."""
    unknown: tuple[str, ...]
    """Descriptions of the data whose size cannot be estimated."""
    free: float
    directory: Path
    """The folder that contains the runs."""

    @property
    def too_little(self) -> bool:
        """Whether the free space is certainly not enough."""
        return self.surely > self.free

    @property
    def close(self) -> bool:
        """Whether the free space may not be enough."""
        return self.most > CLOSE * self.free

    def line(self) -> str:
        """Return a line such as `disk: about 41 GB needed, 120 GB free in runs`, with a warning if necessary."""
        there = f"{shown(self.free)} free in {self.directory}"
        if not self.most and not self.unknown:
            return f"disk: nothing left to write, {there}"
        needed = f"{'at least' if self.unknown else 'about'} {shown(self.most)} needed"
        not_counted = f" (not counted: {', '.join(self.unknown)})" if self.unknown else ""
        verdict = ": not enough" if self.too_little else ": may not be enough" if self.close else ""
        return f"disk: {needed}{not_counted}, {there}{verdict}"


def needed(run: Run, states: Iterable[tuple[str, str, Path | None]]) -> Needed:
    """Estimate the space that the unfinished stages need, in addition to what they have written already.

    `states`: as returned by `Run.states`. Stages run one after another, so the output of a finished stage still takes
    space while later stages run. Raises UserError if a source or model whose size is needed cannot be read.
    """
    spaces, unknown, stage = Spaces(run.recipe), list[str](), ""
    kept = sure_kept = most = surely = 0.0
    for name, state, path in states:
        if state == "skipped":
            continue
        if state == "done" and path is not None and is_finished(path):
            spaces.finished(name, Artifact(path, read_manifest(path)))
            continue
        space, written = spaces.of(name), _written(run, name, path)
        most = max(most, kept + space.peak - written)
        if sure_kept + space.sure_peak - written > surely:
            surely, stage = sure_kept + space.sure_peak - written, name
        kept += space.kept - written
        sure_kept += space.sure_kept - written
        unknown += space.unknown
    root = run.directory.parent
    return Needed(max(most, surely), surely, stage, tuple(dict.fromkeys(unknown)), free(root), root)


def refuse(found: Needed, recipe: Recipe) -> None:
    """Raise UserError if the free space is certainly not enough."""
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
        f"{found.directory}: stages.{found.stage} needs at least {shown(found.surely)} for its weights and "
        f"checkpoints and the models of earlier stages, but only {shown(found.free)} is free; free some space, "
        f"{', or '.join(cures)}"
    )


def free(root: Path) -> float:
    """Return the number of free bytes on the disk of a folder. The folder need not exist yet."""
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def shown(size: float) -> str:
    """Format a number of bytes, such as `41 GB` or `3.2 MB`."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= scale:
            return f"{size / scale:.{0 if size >= 10 * scale else 1}f} {unit}"
    return f"{size / 1e6:.1f} MB"


def _written(run: Run, name: str, path: Path | None) -> float:
    """Return the bytes that an unfinished stage has already written, including the saved parts of a curate stage."""
    if path is None:
        return 0.0
    config, found = run.recipe.stages[name], [path.with_name(path.name + ".partial")]
    if isinstance(config, CurateConfig) and config.grading is not None:
        resolved = run.resolved(name)
        keys = {"pool": parts.pool_key(config, resolved), "grades": parts.grades_key(config, resolved)}
        found += [parts.part_path(run.directory, name, part, key) for part, key in keys.items()]
    return sum(size_of(directory) for directory in found if directory.is_dir())
