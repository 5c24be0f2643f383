"""Rule-based grades: the mean grade of a task set, and the win rate against an earlier evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from thinkling.data.tables import read_table, write_table
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Score
from thinkling.stats import bootstrap_interval
from thinkling.tasks.problem import Problem
from thinkling.verify.preference import grade, win

SCHEMA = pa.schema([("problem_id", pa.string()), ("sample", pa.int32()), ("grade", pa.float64())])


@dataclass(frozen=True)
class GradedSample:
    """A row of grades/TASK_SET.parquet: the rule's grade of one sample, from 0 to 1."""

    problem_id: str
    sample: int
    grade: float


@dataclass(frozen=True)
class WinRate:
    """Fraction of samples with a higher grade than the baseline's corresponding sample, i.e. the sample with the same
    problem and sample number, which was drawn with the same random numbers. Ties count as one half. `low` and `high`
    are a bootstrap interval over `n` problems."""

    mean: float
    low: float
    high: float
    n: int


def grade_rollouts(rollouts: Sequence[Rollout], problems: Sequence[Problem], k: int) -> list[GradedSample]:
    """Returns one row per sample, in the order of the rollouts. There must be `k` rollouts per problem, in the order of
    the problems."""
    asked = [problem for problem in problems for _ in range(k)]
    return [
        GradedSample(r.problem_id, r.sample, grade(problem, r.reading, r.truncated))
        for r, problem in zip(rollouts, asked, strict=True)
    ]


def graded_score(score: Score, rollouts: Sequence[Rollout], graded: Sequence[GradedSample]) -> Score:
    """Returns the score computed from grades instead of verdicts: its mean, its interval, its means per family, and its
    mean over samples with reasoning.

    `outcomes` still counts verdicts; a grade of 1 counts as right.
    """
    values = [row.grade for row in graded]
    low, high = bootstrap_interval(_problem_means(graded, values))
    families: dict[str, list[float]] = {}
    for rollout, value in zip(rollouts, values, strict=True):
        families.setdefault(rollout.family, []).append(value)
    thinking = [value for rollout, value in zip(rollouts, values, strict=True) if rollout.thinks]
    return replace(
        score,
        mean=float(np.mean(values)),
        low=low,
        high=high,
        accuracy_thinking=float(np.mean(thinking)) if thinking else None,
        per_family={family: float(np.mean(found)) for family, found in families.items()},
    )


def win_rate(mine: Sequence[GradedSample], other: Sequence[GradedSample]) -> WinRate:
    """Compares two evaluations sample by sample. Raises ValueError if their problems or samples differ."""
    if [(r.problem_id, r.sample) for r in mine] != [(r.problem_id, r.sample) for r in other]:
        raise ValueError("grades of different problems or samples cannot be compared")
    wins = [win(a.grade, b.grade) for a, b in zip(mine, other, strict=True)]
    means = _problem_means(mine, wins)
    low, high = bootstrap_interval(means)
    return WinRate(float(means.mean()), low, high, len(means))


def _problem_means(rows: Sequence[GradedSample], values: Sequence[float]) -> np.ndarray:
    """Returns the mean of each problem's values. The samples of a problem must be adjacent."""
    pairs = zip((row.problem_id for row in rows), values, strict=True)
    return np.array([np.mean([v for _, v in group]) for _, group in groupby(pairs, key=lambda pair: pair[0])])


def write_grades(path: Path, rows: Sequence[GradedSample]) -> None:
    """Writes the rows to a Parquet file atomically."""
    write_table(path, map(asdict, rows), SCHEMA)


def read_grades(path: Path) -> list[GradedSample]:
    """Reads the rows of a file. Raises UserError with the file's path if the file is missing or cannot be read."""
    return [GradedSample(**row) for row in read_table(path, SCHEMA)]
