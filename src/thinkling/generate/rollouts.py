"""A judged completion, and rollouts as Parquet, where a person may audit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from thinkling.data.reading import Reading
from thinkling.data.seals import seal
from thinkling.data.tables import read_table, write_table
from thinkling.generate.engine import FinishReason
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
    """One sample: what was asked, what came, and the verdict. All but `read` are columns of rollouts Parquet."""

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
    """Whether it reasons before it answers."""
    finish_reason: FinishReason
    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """As `Completion.logprobs`."""
    versions: list[int]
    forced: list[bool]
    """Tokens that a tool wrote."""
    read: Reading | None = field(default=None, compare=False, repr=False)
    """What the renderer read in the tokens; None on rollouts from a file, until a renderer reads them again."""

    @property
    def reading(self) -> Reading:
        """`read`, where it is there. Raises ValueError where it is not."""
        if self.read is None:
            raise ValueError(f"sample {self.sample} of problem {self.problem_id} comes from a file and was not read")
        return self.read

    @property
    def truncated(self) -> bool:
        """Whether it was cut off by max_new_tokens."""
        return self.finish_reason == "length"

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
    """Writes the file whole or not at all, and its digest beside it; the same rollouts give the same bytes."""
    write_table(path, ({name: getattr(r, name) for name in SCHEMA.names} for r in rollouts), SCHEMA)
    seal(path)


def read_rollouts(path: Path) -> list[Rollout]:
    """The rollouts of a file, in order. Raises UserError naming the file where it cannot be read."""
    return [Rollout(**row) for row in read_table(path, SCHEMA)]
