"""Differences between consecutive evaluations of a task set, paired by problem, with 95% bootstrap intervals.

Because the two models answered the same problems, the difference is computed for each problem. The difficulty of the
problem cancels out of this difference, so the interval of the mean difference is narrower than the intervals of the two
scores suggest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from thinkling.data.readers import readable
from thinkling.report.read import Stage
from thinkling.stats import Difference, difference


@dataclass(frozen=True)
class Comparison:
    """Comparison of two consecutive evaluations of a task set. If the evaluations cannot be paired, `whole` is None and
    `note` contains the reason."""

    later: str
    earlier: str
    whole: Difference | None
    families: dict[str, Difference]
    note: str


@dataclass(frozen=True)
class Answers:
    """Result of an evaluation on a task set: its score and, for each problem, the family and the mean over samples."""

    stage: Stage
    score: Mapping[str, Any]
    problems: dict[str, tuple[str, float]]


def comparisons(stages: Sequence[Stage]) -> dict[str, list[Comparison]]:
    """Compare the consecutive evaluations of each task set, in the order of the stages. Task sets that were evaluated
    only once are omitted."""
    evaluated: dict[str, list[tuple[Stage, Mapping[str, Any]]]] = {}
    for stage in stages:
        for score in stage.scores:
            evaluated.setdefault(score["task_set"], []).append((stage, score))
    found = {}
    for task_set, scores in evaluated.items():
        if len(scores) > 1:
            answers = [Answers(stage, score, problem_means(stage.path, score)) for stage, score in scores]
            found[task_set] = [compare(*pair) for pair in zip(answers[1:], answers, strict=False)]
    return found


def problem_means(directory: Path, score: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Return problem → (family, mean over the problem's samples), using the measure of `score`: verdicts or grades. The
    result is empty if no samples were stored.

    Raises UserError with the path if a file cannot be read.
    """
    families: dict[str, str] = {}
    values: dict[str, list[float]] = {}
    graded = score.get("measure") == "grade"
    for path in _files(directory / "rollouts", score["task_set"]):
        for row in _rows(path, ["problem_id", "family", "outcome"]):
            families[row["problem_id"]] = row["family"]
            if not graded:
                values.setdefault(row["problem_id"], []).append(float(row["outcome"] == "right"))
    if graded:
        for path in _files(directory / "grades", f"{score['task_set']}.parquet"):
            for row in _rows(path, ["problem_id", "grade"]):
                values.setdefault(row["problem_id"], []).append(row["grade"])
    return {p: (families.get(p, ""), float(np.mean(v))) for p, v in values.items()}


def _files(directory: Path, name: str) -> list[Path]:
    """Return the Parquet files with this name in the directory, or in its folder with this name. Because the name is
    read from data, it is compared with directory entries and never used as part of a path."""
    entry = next((e for e in directory.iterdir() if e.name == name), None) if directory.is_dir() else None
    if entry is None:
        return []
    return sorted(entry.glob("*.parquet")) if entry.is_dir() else [entry]


def _rows(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a file, or an empty list if the file lacks one of the columns."""
    with readable(path), pq.ParquetFile(path) as file:
        if not set(columns) <= set(file.schema_arrow.names):
            return []
        return file.read(columns=columns).to_pylist()


def compare(later: Answers, earlier: Answers) -> Comparison:
    """Return the paired difference over all problems and by family."""
    names: tuple[str, str] = (later.score["checkpoint"], earlier.score["checkpoint"])
    if names[0] == names[1]:
        names = (later.stage.name, earlier.stage.name)
    reason = _not_comparable(later, earlier)
    if reason:
        return Comparison(*names, None, {}, reason)
    by_family: dict[str, list[float]] = {}
    for problem in sorted(later.problems):
        family, value = later.problems[problem]
        by_family.setdefault(family, []).append(value - earlier.problems[problem][1])
    order: dict[str, None] = dict.fromkeys([*(later.score.get("per_family") or {}), *sorted(by_family)])
    families = {family: difference(by_family[family]) for family in order if family in by_family}
    whole = difference([d for ds in by_family.values() for d in ds])
    return Comparison(*names, whole, families if len(families) > 1 else {}, _remark(later, earlier))


def _not_comparable(later: Answers, earlier: Answers) -> str:
    if later.score.get("measure") != earlier.score.get("measure"):
        return "not compared: one score is a mean of verdicts, and the other is a mean of grades"
    for answers in (earlier, later):
        if not answers.problems:
            return f"not compared: {answers.stage.name} stored no samples of this task set"
    mine, other = later.problems.keys(), earlier.problems.keys()
    if mine != other:
        return (
            f"not compared: the problems differ ({len(mine & other):,} in common of {len(other):,} and {len(mine):,})"
        )
    return ""


def _remark(later: Answers, earlier: Answers) -> str:
    """Describe the differences between the evaluations other than the model."""
    parts = []
    for key, what in (("renderer", "asked by {} instead of {}"), ("k", "{} samples per problem instead of {}")):
        mine, other = later.score.get(key), earlier.score.get(key)
        if mine != other:
            parts.append(what.format(mine, other))
    return ", ".join(parts)


def signed(value: float) -> str:
    """Format a difference with its sign: +0.030, −0.012; zero has no sign: 0.000."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
