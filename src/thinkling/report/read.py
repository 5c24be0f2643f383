"""The data that the report reads from a run: the artifacts of its stages, their manifests, scores and training logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from thinkling.data.artifact import MANIFEST, read_manifest
from thinkling.errors import UserError

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Stage:
    """A finished stage: its name in the recipe, the path of its artifact, and the manifest."""

    name: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.manifest["resolved"]["stage"]

    @property
    def kind(self) -> str:
        """Kind of the stage: curate, pretrain, …"""
        return self.config["kind"]

    @property
    def produces(self) -> str:
        """Kind of the artifact: documents, tokens, model, conversations, scores, …"""
        return self.manifest["kind"]

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest.get("counts", {})

    @property
    def wall_seconds(self) -> float:
        return self.manifest["recorded"]["wall_seconds"]

    @property
    def peak_mb(self) -> float:
        return self.manifest["recorded"]["peak_rss_mb"]

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """Scores of an evaluate stage, each with the evaluated model as `checkpoint`. Empty for other stages."""
        path = self.path / "scores.json"
        if self.produces != "scores" or not path.exists():
            return []
        return [{"checkpoint": self.config["inputs"]["model"], **score} for score in read_json(path)]

    @cached_property
    def log(self) -> TrainingLog | None:
        """Training log of the stage; None if the stage does not train a model."""
        path = self.path / "metrics.jsonl"
        rows = list(read_jsonl(path)) if path.exists() else []
        varies = any(phase.get("batch_tokens") for phase in self.config.get("phases", ()))
        return TrainingLog(rows, None if varies else self.config.get("batch_tokens")) if rows else None

    @cached_property
    def validation(self) -> list[dict[str, Any]]:
        """Loss on validation documents, by source, at the end of each phase, in the order of the phases."""
        files = (self.path / "validation").glob("[0-9]*.json") if self.produces == "model" else ()
        return [read_json(path) for path in sorted(files, key=lambda p: int(p.stem))]


@dataclass(frozen=True)
class LoggedPhase:
    """A phase of training: steps `[first, last)`, and the positions of its beginning and end on the axis of tokens."""

    name: str
    first: int
    last: int
    begin: float
    end: float


@dataclass(frozen=True)
class TrainingLog:
    """A training log: the rows of metrics.jsonl."""

    rows: list[dict[str, Any]]
    batch_tokens: int | None
    """Tokens per step if this number is the same for all steps, else None."""

    @property
    def unit(self) -> str:
        """The unit of `tokens`: all tokens including padding, tokens with loss or, if the log records no token counts,
        steps."""
        if self.batch_tokens:
            return "tokens"
        return "tokens with loss" if all("loss_tokens" in row for row in self.rows) else "steps"

    @cached_property
    def tokens(self) -> list[float]:
        """Tokens seen after each step, in units of `unit`."""
        if self.batch_tokens:
            return [self.batch_tokens * (i + 1.0) for i in range(len(self.rows))]
        counted, total, seen = self.unit != "steps", 0.0, []
        for row in self.rows:
            total += row["loss_tokens"] if counted else 1
            seen.append(total)
        return seen

    def column(self, key: str) -> list[float]:
        """Return the values of a metric, one per step. The value is NaN if it is missing or not a number."""
        values = (row.get(key) for row in self.rows)
        return [float(v) if isinstance(v, int | float) else math.nan for v in values]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all metrics that are numbers, in the order of their first appearance."""
        found: dict[str, None] = {}
        for row in self.rows:
            found.update((k, None) for k, v in row.items() if _is_number(v))
        return list(found)

    @cached_property
    def phases(self) -> list[LoggedPhase]:
        """Runs of consecutive rows with the same `phase`. A log without phases has one unnamed phase."""
        bounds = [0] + [
            i for i in range(1, len(self.rows)) if self.rows[i].get("phase") != self.rows[i - 1].get("phase")
        ]
        at = [0.0, *self.tokens]
        return [
            LoggedPhase(str(self.rows[a].get("phase") or ""), a, b, at[a], at[b])
            for a, b in zip(bounds, [*bounds[1:], len(self.rows)], strict=True)
        ]

    @cached_property
    def sources(self) -> list[str]:
        """Sources of the rows, in the order of their first appearance. Empty if the log does not record sources."""
        found: dict[str, None] = {}
        for row in self.rows:
            found.update(dict.fromkeys(row.get("rows") or {}))
        return list(found)


@dataclass(frozen=True)
class RunView:
    """A run: its folder, its summary, and its finished stages in order."""

    directory: Path
    summary: Mapping[str, Any]
    stages: list[Stage]

    @property
    def name(self) -> str:
        return self.summary.get("recipe", self.directory.name)

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """All scores, in the order of the evaluate stages."""
        return [score for stage in self.stages for score in stage.scores]

    def giver(self, artifact: str) -> Stage | None:
        """Return the stage whose artifact has this directory name, or None if the artifact is an external input."""
        return next((s for s in self.stages if s.path.name == artifact), None)


def read_run(directory: Path, artifacts: Mapping[str, Path] | None = None) -> RunView:
    """Read a run's folder. `artifacts`: stage name → artifact, in order. By default, the artifacts listed in
    summary.json.

    Raises UserError if the folder has no summary, or if an artifact is missing or cannot be read.
    """
    path = directory / SUMMARY
    if not path.exists():
        raise UserError(
            f"{path} is missing: {directory} is not the folder of a run, or no stage of the run has finished; correct "
            "the path, or run the recipe"
        )
    summary = read_json(path)
    if artifacts is None:
        stages = [_find(directory, entry) for entry in summary["stages"]]
    else:
        stages = [Stage(name, Path(p), read_manifest(Path(p))) for name, p in artifacts.items()]
    return RunView(directory, summary, stages)


def _find(directory: Path, entry: Mapping[str, Any]) -> Stage:
    """Find the artifact that an entry of the summary describes. The folder may contain several artifacts with the same
    stage name, written by different recipes."""
    found = []
    for path in sorted(directory.glob(f"{entry['name']}-" + "[0-9a-f]" * 8)):
        if (path / MANIFEST).exists():
            stage = Stage(entry["name"], path, read_manifest(path))
            same = (stage.counts, stage.wall_seconds) == (entry["counts"], entry["wall_seconds"])
            found.append((same, stage.manifest["recorded"].get("finished_unix", 0), path.name, stage))
    if not found or not max(found, key=lambda f: f[:3])[0]:
        raise UserError(
            f"{directory}: the artifact of stage {entry['name']} listed in {SUMMARY} is missing; run the recipe again"
        )
    return max(found, key=lambda f: f[:3])[3]


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError with the path if the file is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); run the recipe again") from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of a JSONL file. Raises UserError with the path and line number if a line is not a JSON object."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        for n, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{n}: not JSON ({error}); restore the file") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}:{n}: not a JSON object; restore the file")
            yield row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
