"""Judged completions, stored as Parquet so that people can audit them."""

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
    """One sample: prompt, completion and verdict. All fields except `read` are columns of the Parquet file."""

    problem_id: str
    family: str
    sample: int
    """Index of the sample among the samples of its problem, from 0."""
    question: str
    reference: str
    text: str
    """The decoded completion, including tool responses."""
    outcome: str
    """A value of `Outcome`. `outcome`, `tier` and `detail` together are the verdict."""
    tier: str
    detail: str
    thinks: bool
    """Whether the model reasons before answering."""
    finish_reason: FinishReason
    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """See `Completion.logprobs`."""
    versions: list[int]
    forced: list[bool]
    """True for tokens written by a tool."""
    read: Reading | None = field(default=None, compare=False, repr=False)
    """The tokens as parsed by a renderer; None for a rollout from a file until a renderer parses its tokens again."""

    @property
    def reading(self) -> Reading:
        """Returns `read`. Raises ValueError if `read` is None."""
        if self.read is None:
            raise ValueError(f"sample {self.sample} of problem {self.problem_id} is from a file and was not parsed")
        return self.read

    @property
    def truncated(self) -> bool:
        """Whether the sample was cut off by max_new_tokens."""
        return self.finish_reason == "length"

    @property
    def right(self) -> bool:
        """Whether the answer is correct. avg@k counts a correct sample as 1 and any other sample as 0."""
        return self.outcome == Outcome.RIGHT

    @property
    def n_tokens(self) -> int:
        """Number of tokens written by the model itself."""
        return len(self.tokens) - sum(self.forced)

    @property
    def tool_calls(self) -> int:
        """Number of tool responses in the sample."""
        return sum(after and not before for before, after in pairwise([False, *self.forced]))


def write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """Writes the rollouts to a file atomically, and a second file with the digest next to the first. The same rollouts
    always produce the same bytes."""
    write_table(path, ({name: getattr(r, name) for name in SCHEMA.names} for r in rollouts), SCHEMA)
    seal(path)


def read_rollouts(path: Path) -> list[Rollout]:
    """Returns the rollouts in a file, in order. Raises UserError, which names the file, if the file cannot be read."""
    return [Rollout(**row) for row in read_table(path, SCHEMA)]
