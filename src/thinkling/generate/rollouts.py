"""A judged completion, and rollouts as Parquet, where a person may audit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from thinkling.data.tables import read_table, write_table
from thinkling.verify.verdict import Outcome

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("family", pa.string()),
        ("sample", pa.int32()),
        ("question", pa.string()),
        ("reference", pa.string()),
        ("text", pa.string()),
        ("outcome", pa.string()),
        ("tier", pa.string()),
        ("detail", pa.string()),
        ("thinks", pa.bool_()),
        ("finish_reason", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("tokens", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("versions", pa.list_(pa.int32())),
        ("forced", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True)
class Rollout:
    """One sample: what was asked, what came, and the verdict. Columns of rollouts Parquet, in this order."""

    problem_id: str
    family: str
    sample: int
    """Number of the sample among those of its problem, from 0."""
    question: str
    reference: str
    text: str
    """The completion decoded, tool responses included."""
    outcome: str
    """A value of `Outcome`; with `tier` and `detail` the verdict."""
    tier: str
    detail: str
    thinks: bool
    """Whether anything stands in the thought, or on a page before the answer's full stop."""
    finish_reason: str
    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """As `Completion.logprobs`."""
    versions: list[int]
    forced: list[bool]
    """Tokens that a tool wrote."""

    @property
    def right(self) -> bool:
        """avg@k counts right as 1, all else as 0."""
        return self.outcome == Outcome.RIGHT

    @property
    def n_tokens(self) -> int:
        """Tokens that the model itself wrote."""
        return len(self.tokens) - sum(self.forced)

    @property
    def tool_calls(self) -> int:
        """Calls that were answered."""
        return sum(after and not before for before, after in pairwise([False, *self.forced]))


def write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """Writes the file whole or not at all; the same rollouts give the same bytes."""
    write_table(path, map(asdict, rollouts), SCHEMA)


def read_rollouts(path: Path) -> list[Rollout]:
    """The rollouts of a file, in order. Raises UserError naming the file where it cannot be read."""
    return [Rollout(**row) for row in read_table(path, SCHEMA)]
