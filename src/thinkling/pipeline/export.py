"""A model out of a run: a finished stage's, or a checkpoint's of a stage that is running or was killed."""

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
    """The directory that it is read from."""
    step: int | None
    """Steps done, where it is not a stage's final model."""
    write: Callable[[Path], object]
    """Writes it as a Hugging Face directory."""
    note: str | None = None
    """What the user should know beside it."""


def export(run: str, stage: str, step: str | None, to: Path | None, runs: Path) -> tuple[Found, Path]:
    """Writes a model of a run to a new directory; returns what it was, and where. The run is not touched.

    `run`: a run's folder, or its name below `runs`. `step`: a number of steps done, `best` or `last`; the finished
    stage's model if None. Raises UserError naming what there is instead, and where `to` would overwrite something.
    """
    directory = run_directory(run, runs)
    found = find(directory, stage, step)
    name = directory.resolve().name + f"-{stage}" + ("" if found.step is None else f"-step-{found.step}")
    target = to or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to {target}: it is there already, and not empty; name another directory, or remove it")
    if target.resolve().is_relative_to(directory.resolve()):
        raise UserError(f"--to {target}: it lies inside the run, which is not changed; name a directory elsewhere")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        whole = Path(temporary) / "model"
        found.write(whole)
        whole.rename(target)
    return found, target


def run_directory(run: str, runs: Path) -> Path:
    """The folder of a run. Raises UserError that names the runs there are."""
    for directory in (Path(run), runs / run):
        if directory.is_dir():
            return directory
    there = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    raise UserError(f"{run}: there is no such run; {runs} holds {', '.join(there) or 'none'}{nearest(run, there)}")


def find(directory: Path, stage: str, step: str | None) -> Found:
    """The model that is asked for. Of several artifacts of a stage, which changed recipes leave, the newest counts.

    Raises UserError that names the stages or steps there are.
    """
    entries = [(match, path) for path in sorted(directory.iterdir()) if (match := _ARTIFACT.fullmatch(path.name))]
    mine = [(bool(match["partial"]), path) for match, path in entries if match["stage"] == stage]
    if not mine:
        there = list(dict.fromkeys(match["stage"] for match, _ in entries))
        raise UserError(f"{directory}: it has no stage {stage!r}{nearest(stage, there)}; there are {', '.join(there)}")
    finished = [path for partial, path in mine if not partial and is_finished(path)]
    partial = [path for is_partial, path in mine if is_partial]
    if step is None and finished:
        newest = max(finished, key=lambda path: read_manifest(path)["recorded"]["finished_unix"])
        newer = [path for path in partial if path.stat().st_mtime > newest.stat().st_mtime]
        note = f"{newer[0].name} is newer and has not finished; --step exports a checkpoint of it" if newer else None
        return _final(stage, newest, note)
    if not partial:
        raise UserError(
            f"--step {step}: stage {stage} has finished, which deletes its checkpoints; leave out --step to export its "
            "model"
        )
    return _checkpoint(stage, max(partial, key=lambda path: path.stat().st_mtime_ns), step)


def _final(stage: str, path: Path, note: str | None) -> Found:
    artifact = Artifact(path, read_manifest(path))
    verify(path, artifact.manifest)
    if artifact.manifest["kind"] != "model":
        raise UserError(f"{path}: stage {stage} makes {artifact.manifest['kind']}, not a model; name one that trains")
    return Found(artifact.model_dir, None, lambda target: shutil.copytree(artifact.model_dir, target), note)


def _checkpoint(stage: str, path: Path, step: str | None) -> Found:
    checkpoints = _steps(path / "checkpoints")
    best = _steps(path / BEST)
    known = [*map(str, checkpoints), *([LAST] if checkpoints else []), *([BEST] if best else [])]
    choice = f"there {'are' if known else 'is'} {', '.join(known) or 'no checkpoint yet'}"
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
    """Steps done → directory, of what is whole in a folder."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {int(match[1]): path for path in entries if (match := _STEP.fullmatch(path.name))}
