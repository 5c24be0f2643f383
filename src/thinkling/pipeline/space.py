"""The disk space that the stages still to run need, against what is free where runs are written."""

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
"""Fraction of the free space above which the need counts as close to it."""


@dataclass(frozen=True)
class Needed:
    """Space needed and space free, in bytes."""

    most: float
    """An estimate, rather too high, without `unknown`."""
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
        there = f"{shown(self.free)} free in {self.directory}"
        if not self.most and not self.unknown:
            return f"disk: nothing left to write, {there}"
        needed = f"{'at least' if self.unknown else 'about'} {shown(self.most)} needed"
        not_counted = f" (not counted: {', '.join(self.unknown)})" if self.unknown else ""
        verdict = ": not enough" if self.too_little else ": may not be enough" if self.close else ""
        return f"disk: {needed}{not_counted}, {there}{verdict}"


def needed(run: Run, states: Iterable[tuple[str, str, Path | None]]) -> Needed:
    """What the stages that have not finished need beyond what they have written; `states` as returned by `Run.states`.

    Stages run one after another, and what a stage keeps stays there while the next ones run. Raises UserError if a
    source or model whose size is needed cannot be read.
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


def _written(run: Run, name: str, path: Path | None) -> float:
    """Bytes of a stage that are there already: what it had written when it was killed, and parts of curate."""
    if path is None:
        return 0.0
    config, found = run.recipe.stages[name], [path.with_name(path.name + ".partial")]
    if isinstance(config, CurateConfig) and config.grading is not None:
        resolved = run.resolved(name)
        keys = {"pool": parts.pool_key(config, resolved), "grades": parts.grades_key(config, resolved)}
        found += [parts.part_path(run.directory, name, part, key) for part, key in keys.items()]
    return sum(size_of(directory) for directory in found if directory.is_dir())
