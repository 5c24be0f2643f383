"""The `export` command: copy a model out of a run, from a finished stage or a checkpoint of an unfinished stage."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thinkling.data.artifact import Artifact, is_finished, read_manifest, verify
from thinkling.data.seals import SUFFIX, require
from thinkling.errors import UserError
from thinkling.pipeline.mistakes import nearest

BEST, LAST = "best", "last"
_ARTIFACT = re.compile(r"(?P<stage>.+)-[0-9a-f]{8}(?P<partial>\.partial)?")
_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Found:
    """A model in a run."""

    origin: Path
    """The directory from which the model is read."""
    step: int | None
    """The number of steps completed; None for the final model of a stage."""
    write: Callable[[Path], object]
    """Writes the model to a path as a Hugging Face model directory."""
    note: str | None = None
    """A remark for the user, or None."""


def export(run: str, stage: str, step: str | None, to: Path | None, runs: Path) -> tuple[Found, Path]:
    """Write a model of a run to a new directory. Return the model and the directory. The run is not changed.

    `run`: the folder of a run, or its name below `runs`. `step`: a number of completed steps, `best` or `last`; if
    None, the final model of the finished stage is exported. Raises UserError if there is no such model (the message
    lists the available ones), or if `to` exists and is not an empty directory.
    """
    directory = run_directory(run, runs)
    found = find(directory, stage, step)
    name = directory.resolve().name + f"-{stage}" + ("" if found.step is None else f"-step-{found.step}")
    target = to or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to {target}: it exists and is not an empty directory; remove it or choose a different path")
    if target.resolve().is_relative_to(directory.resolve()):
        raise UserError(
            f"--to {target}: the path is inside the run, which must not be changed; choose a path elsewhere"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        whole = Path(temporary) / "model"
        found.write(whole)
        whole.rename(target)
    return found, target


def run_directory(run: str, runs: Path) -> Path:
    """Return the folder of a run. Raises UserError, which lists the existing runs, if there is no such run."""
    for directory in (Path(run), runs / run):
        if directory.is_dir():
            return directory
    there = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    raise UserError(f"{run}: no such run; {runs} contains {', '.join(there) or 'no runs'}{nearest(run, there)}")


def find(directory: Path, stage: str, step: str | None) -> Found:
    """Find the requested model. If changed recipes have left several artifacts of the stage, the newest is used.

    Raises UserError, which lists the existing stages or steps, if there is no such model.
    """
    entries = [(match, path) for path in sorted(directory.iterdir()) if (match := _ARTIFACT.fullmatch(path.name))]
    mine = [(bool(match["partial"]), path) for match, path in entries if match["stage"] == stage]
    if not mine:
        there = list(dict.fromkeys(match["stage"] for match, _ in entries))
        raise UserError(f"{directory}: no stage {stage!r}{nearest(stage, there)}; its stages are {', '.join(there)}")
    finished = [path for partial, path in mine if not partial and is_finished(path)]
    partial = [path for is_partial, path in mine if is_partial]
    if step is None and finished:
        newest = max(finished, key=lambda path: read_manifest(path)["recorded"]["finished_unix"])
        newer = [path for path in partial if path.stat().st_mtime > newest.stat().st_mtime]
        note = f"{newer[0].name} is newer but unfinished; --step exports one of its checkpoints" if newer else None
        return _final(stage, newest, note)
    if not partial:
        raise UserError(
            f"--step {step}: stage {stage} has finished, and finished stages have no checkpoints; omit --step to "
            "export the final model"
        )
    return _checkpoint(stage, max(partial, key=lambda path: path.stat().st_mtime_ns), step)


def _final(stage: str, path: Path, note: str | None) -> Found:
    artifact = Artifact(path, read_manifest(path))
    verify(path, artifact.manifest)
    if artifact.manifest["kind"] != "model":
        kind = artifact.manifest["kind"]
        raise UserError(f"{path}: stage {stage} writes {kind}, not a model; choose a training stage")
    return Found(artifact.model_dir, None, lambda target: shutil.copytree(artifact.model_dir, target), note)


def _checkpoint(stage: str, path: Path, step: str | None) -> Found:
    checkpoints = _steps(path / "checkpoints")
    best = _steps(path / BEST)
    known = [*map(str, checkpoints), *([LAST] if checkpoints else []), *([BEST] if best else [])]
    choice = f"available: {', '.join(known)}" if known else "no checkpoint has been written yet"
    if step is None:
        cure = "; choose one with --step" if known else ""
        raise UserError(f"{path}: stage {stage} has not finished, so it has no final model; {choice}{cure}")
    if step == BEST and best:
        number = max(best)
        require(best[number], path)
        ignored = shutil.ignore_patterns(f".*{SUFFIX}")
        return Found(best[number], number, lambda target: shutil.copytree(best[number], target, ignore=ignored))
    number = max(checkpoints, default=None) if step == LAST else int(step) if step.isdecimal() else None
    if number is None or number not in checkpoints:
        raise UserError(f"--step {step}: stage {stage} has no such checkpoint; {choice}")
    from thinkling.stages.training.export import export_checkpoint

    return Found(checkpoints[number], number, lambda target: export_checkpoint(checkpoints[number], target))


def _steps(folder: Path) -> dict[int, Path]:
    """Map the number of completed steps to the directory of each complete checkpoint in a folder."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {int(match[1]): path for path in entries if (match := _STEP.fullmatch(path.name))}
