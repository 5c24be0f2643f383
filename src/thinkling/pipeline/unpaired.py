"""Problems of a dpd stage whose samples yielded no preference pair, with the reasons.

The stage only counts these problems, so they are derived from its samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from thinkling.generate.rollouts import SCHEMA, Rollout
from thinkling.pipeline.forms import ROLLOUTS
from thinkling.pipeline.records import Item, Table, find, tables, where
from thinkling.pipeline.stage_folders import StageFolder
from thinkling.stages.dpd.pairs import rejection, without_pair
from thinkling.verify.verdict import Outcome

SAMPLES = {role: f"samples/{role}" for role in ("student", "teacher")}
"""Role of the model → the name of the table of its samples."""


@dataclass(frozen=True)
class Unpaired:
    """A problem without a pair."""

    problem_id: str
    family: str
    question: str
    reason: str


def reason_of(folder: StageFolder, identity: str) -> str | None:
    """Return why a problem of a finished stage has no pair; None if it has a pair or was not sampled."""
    found = {role: _samples(folder, name, identity) for role, name in SAMPLES.items()}
    if not found["student"] or not folder.settings:
        return None
    return without_pair(found["student"], found["teacher"], *_limits(folder))


def unpaired(folder: StageFolder) -> Iterator[Unpaired]:
    """Yield the problems of a finished stage that have no pair. Rejections due to the student come first."""
    if not folder.settings.get("pairs"):
        return
    min_margin, sequence_length = _limits(folder)
    left: dict[str, list[Rollout]] = {}
    for mine in _by_problem(_table(folder, SAMPLES["student"])):
        reason = rejection("student", mine, Outcome.WRONG, sequence_length)
        if reason is None:
            # From here on, only the verdicts are needed, so drop the token-level columns.
            left[mine[0].problem_id] = [replace(r, prompt=[], tokens=[], logprobs=[], versions=[]) for r in mine]
        else:
            yield _unpaired(mine[0], reason)
    for theirs in _by_problem(_table(folder, SAMPLES["teacher"])):
        reason = without_pair(left[theirs[0].problem_id], theirs, min_margin, sequence_length)
        if reason is not None:
            yield _unpaired(theirs[0], reason)


def _unpaired(sample: Rollout, reason: str) -> Unpaired:
    return Unpaired(sample.problem_id, sample.family, sample.question, reason)


def _limits(folder: StageFolder) -> tuple[float, int]:
    return folder.settings["pairs"]["min_margin"], folder.settings["sequence_length"]


def _table(folder: StageFolder, name: str) -> list[Table]:
    return [table for table in tables(folder) if table.form is ROLLOUTS and table.name == name]


def _samples(folder: StageFolder, name: str, identity: str) -> list[Rollout]:
    return [_rollout(item) for item in find(_table(folder, name), identity, SCHEMA.names)]


def _by_problem(found: Sequence[Table]) -> Iterator[list[Rollout]]:
    """Yield the samples of each problem, which are in consecutive rows."""
    rows = (Item(table, row) for table in found for row in where(table, SCHEMA.names, lambda row: True))
    for _, samples in groupby(map(_rollout, rows), key=lambda rollout: rollout.problem_id):
        yield list(samples)


def _rollout(item: Item) -> Rollout:
    return Rollout(**item.row)
