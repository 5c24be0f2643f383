"""The artifacts in a run's folder, by stage: the newest of each, in the order in which they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkling.data.artifact import MANIFEST, is_finished, read_manifest

_ARTIFACT = re.compile(r"(?P<stage>.+)-[0-9a-f]{8}(?P<partial>\.partial)?")


@dataclass(frozen=True)
class StageFolder:
    """What a stage wrote, or is writing."""

    stage: str
    path: Path
    manifest: Mapping[str, Any] | None
    """None for a stage that has not finished."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The stage's part of the recipe, with all defaults; empty for one that has not finished."""
        return (self.manifest or {}).get("resolved", {}).get("stage", {})

    @property
    def counts(self) -> Mapping[str, Any]:
        """Empty for a stage that has not finished."""
        return (self.manifest or {}).get("counts", {})

    def input(self, role: str) -> Path | None:
        """The artifact of the run that the stage read; None where it has no such input, or one from elsewhere."""
        name = (self.manifest or {}).get("inputs", {}).get(role, {}).get("artifact")
        path = None if name is None else self.path.parent / name
        return path if path is not None and path.is_dir() else None

    @classmethod
    def open(cls, path: Path) -> StageFolder:
        """A finished artifact. Raises UserError if its manifest cannot be read."""
        manifest = read_manifest(path)
        return cls(manifest["stage"], path, manifest)


def stage_folders(run: Path) -> list[StageFolder]:
    """The newest artifact of each stage, in the order in which they were made; behind them the stages that have not
    finished, where they are newer than what they replace.

    Raises UserError for an artifact whose manifest cannot be read.
    """
    finished: dict[str, tuple[tuple[float, int], StageFolder]] = {}
    partial: list[tuple[int, StageFolder]] = []
    for path in sorted(run.iterdir()):
        match = _ARTIFACT.fullmatch(path.name)
        if match is None or path.is_symlink() or not path.is_dir():
            continue
        if match["partial"]:
            partial.append((path.stat().st_mtime_ns, StageFolder(match["stage"], path, None)))
        elif is_finished(path):
            manifest = read_manifest(path)
            age = (manifest["recorded"]["finished_unix"], (path / MANIFEST).stat().st_mtime_ns)
            known = finished.get(match["stage"])
            if known is None or known[0] < age:
                finished[match["stage"]] = age, StageFolder(match["stage"], path, manifest)
    done = [folder for _, folder in sorted(finished.values(), key=lambda entry: entry[0])]
    newer = [
        folder
        for changed, folder in sorted(partial, key=lambda entry: entry[0])
        if folder.stage not in finished or finished[folder.stage][1].path.stat().st_mtime_ns < changed
    ]
    return done + newer
