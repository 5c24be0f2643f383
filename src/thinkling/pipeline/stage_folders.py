"""The artifacts in a run's folder: the newest of each stage, in the order in which they were written."""

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
    """The folder of a stage, which is either a finished artifact or still being written."""

    stage: str
    path: Path
    manifest: Mapping[str, Any] | None
    """The artifact's manifest; None if the stage is unfinished."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The stage's section of the recipe, with all defaults; empty if the stage is unfinished."""
        return (self.manifest or {}).get("resolved", {}).get("stage", {})

    @property
    def counts(self) -> Mapping[str, Any]:
        """The counts in the manifest; empty if the stage is unfinished."""
        return (self.manifest or {}).get("counts", {})

    def input(self, role: str) -> Path | None:
        """Return the folder of the input artifact with this role; None if the stage has no such input or if the input
        is not part of the run."""
        name = (self.manifest or {}).get("inputs", {}).get(role, {}).get("artifact")
        path = None if name is None else self.path.parent / name
        return path if path is not None and path.is_dir() else None

    @classmethod
    def open(cls, path: Path) -> StageFolder:
        """Open a finished artifact. Raises UserError if its manifest cannot be read."""
        manifest = read_manifest(path)
        return cls(manifest["stage"], path, manifest)


def stage_folders(run: Path) -> list[StageFolder]:
    """Return the newest finished artifact of each stage, in the order in which the artifacts were finished.

    The finished artifacts are followed by the unfinished artifacts that are newer than the finished artifact of their
    stage. Raises UserError if the manifest of an artifact cannot be read.
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
