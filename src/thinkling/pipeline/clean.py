"""The `clean` command: delete a run's artifacts that no longer belong to its recipe."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from thinkling.pipeline.runner import Run, locked

ARTIFACT = re.compile(r".+-[0-9a-f]{8}(?:\.partial)?")
"""Names of the folders that stages write. The command never deletes anything else in a run's folder, such as tracker
logs."""


@dataclass(frozen=True)
class Left:
    """An artifact folder written by an earlier version of the recipe."""

    path: Path
    bytes: int
    linked: str | None
    """The run's symbolic link (`base` or `model`) that points into this folder, or None. A linked folder is kept."""


def left_over(run: Run) -> list[Left]:
    """Return the artifacts in the run's folder that the current recipe would not use."""
    if not run.directory.is_dir():
        return []
    used = {name for _, _, path in run.states() if path for name in (path.name, f"{path.name}.partial")}
    links = {link: (run.directory / link) for link in ("base", "model")}
    targets = {name: link.resolve() for name, link in links.items() if link.is_symlink()}
    found = []
    for path in sorted(run.directory.iterdir()):
        if path.is_symlink() or not path.is_dir() or path.name in used or not ARTIFACT.fullmatch(path.name):
            continue
        linked = next((name for name, target in targets.items() if target.is_relative_to(path.resolve())), None)
        found.append(Left(path, sum(_sizes(path)), linked))
    return found


def clean(run: Run, yes: bool, console: Console) -> None:
    """List the leftover artifacts with their sizes, and delete them if `yes` is set.

    Raises UserError if another process is working on the run.
    """
    found = left_over(run)
    if not found:
        console.print(f"{run.directory}: no artifacts of earlier versions of the recipe", highlight=False)
        return
    console.print(table(run, found))
    wanted = [one for one in found if one.linked is None]
    size = f"{len(wanted)} folders, {_megabytes(sum(one.bytes for one in wanted))}"
    if not yes:
        console.print(f"{size}. Nothing was deleted: add --yes to delete them.", highlight=False)
        return
    with locked(run.directory):
        for one in wanted:
            shutil.rmtree(one.path)
    console.print(f"deleted {size}", highlight=False)


def table(run: Run, found: list[Left]) -> Table:
    """Return a table of the leftover artifacts."""
    shown = Table(title=f"{run.directory}: not part of the current recipe", title_justify="left")
    shown.add_column("folder", overflow="fold")
    shown.add_column("size", justify="right", no_wrap=True)
    shown.add_column("", overflow="fold")
    for one in found:
        unfinished = "unfinished" if one.path.name.endswith(".partial") else ""
        note = f"kept: `{one.linked}` points to it" if one.linked else unfinished
        shown.add_row(one.path.name, _megabytes(one.bytes), note)
    return shown


def _sizes(folder: Path) -> Iterator[int]:
    return (path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
