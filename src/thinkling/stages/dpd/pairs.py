"""Judged samples → pairs of a correct teacher sample and an incorrect student sample, which are stored as Parquet for
auditing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from thinkling.data.seals import seal
from thinkling.data.tables import read_table, write_table
from thinkling.errors import UserError
from thinkling.generate.rollouts import Rollout
from thinkling.stages.dpd.config import PairsConfig
from thinkling.verify.verdict import Outcome

FILE = "pairs.parquet"
_SIDE = pa.struct(
    [
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("forced", pa.list_(pa.bool_())),
        ("reference_log_prob", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("family", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("margin", pa.float64()),
        ("chosen", _SIDE),
        ("rejected", _SIDE),
    ]
)


@dataclass(frozen=True)
class Side:
    """One completion of a pair. The fields have the same meaning as in `Rollout`."""

    sample: int
    text: str
    tokens: list[int]
    forced: list[bool]
    reference_log_prob: float | None = None
    """Natural logarithm of the probability that the initial checkpoint assigns to the tokens, except for tokens written
    by a tool. None if the loss has no DPO term."""


@dataclass(frozen=True)
class Pair:
    """The chosen (y⁺) and the rejected (y⁻) completion of a prompt. The fields are the columns of pairs.parquet, in
    this order."""

    problem_id: str
    """Id of the problem. For existing pairs, the id of the pair."""
    family: str
    """Family of the problem. For existing pairs, the name of the source."""
    question: str
    """The last user message."""
    answer: str
    """The problem's reference answer; empty for existing pairs."""
    prompt: list[int]
    margin: float | None
    """The teacher's fraction of correct samples on this problem minus the student's; None for existing pairs."""
    chosen: Side
    rejected: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.chosen, self.rejected

    def with_references(self, chosen: float, rejected: float) -> Pair:
        """Returns the pair with the log-probabilities of the initial checkpoint."""
        return replace(
            self,
            chosen=replace(self.chosen, reference_log_prob=chosen),
            rejected=replace(self.rejected, reference_log_prob=rejected),
        )


def by_problem(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    """Groups samples by problem, in order.

    Raises UserError if a verifier failed, because a verifier's failure must not count as an incorrect answer and must
    not go unnoticed.
    """
    failed = [r for r in rollouts if r.outcome == Outcome.ERROR]
    if failed:
        raise UserError(
            f"verifier {failed[0].tier} failed on {len(failed)} of {len(rollouts)} samples, first on "
            f"{failed[0].question!r}: {failed[0].detail}; fix the verifier and run again"
        )
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.problem_id, []).append(rollout)
    return found


def usable(rollouts: Sequence[Rollout], outcome: Outcome, sequence_length: int) -> list[Rollout]:
    """Returns the distinct samples that have the given outcome, are not truncated, and fit into a row together with
    their prompt."""
    found: dict[tuple[int, ...], Rollout] = {}
    for r in rollouts:
        if r.outcome == outcome and r.finish_reason == "stop" and len(r.prompt) + len(r.tokens) <= sequence_length:
            found.setdefault(tuple(r.tokens), r)
    return list(found.values())


def rejection(side: str, rollouts: Sequence[Rollout], wanted: Outcome, sequence_length: int) -> str | None:
    """Returns the reason why none of a model's samples of a problem can be a side of a pair, or None if one of them
    can.

    `<side>_not_<outcome>`: no sample has the outcome `wanted`. `<side>_truncated`: all samples with this outcome
    reached max_new_tokens. `<side>_too_long`: the complete samples with this outcome do not fit into a row.
    """
    if usable(rollouts, wanted, sequence_length):
        return None
    such = [r for r in rollouts if r.outcome == wanted]
    if not such:
        return f"{side}_not_{wanted.value}"
    return f"{side}_truncated" if all(r.finish_reason == "length" for r in such) else f"{side}_too_long"


def without_pair(
    student: Sequence[Rollout], teacher: Sequence[Rollout], min_margin: float, sequence_length: int
) -> str | None:
    """Returns the reason why the samples of a problem yield no pair (the `rejection` of a side, or `margin`), or None
    if they yield a pair."""
    reason = rejection("student", student, Outcome.WRONG, sequence_length)
    reason = reason or rejection("teacher", teacher, Outcome.RIGHT, sequence_length)
    if reason is None and fraction_right(teacher) - fraction_right(student) < min_margin:
        return "margin"
    return reason


def make_pairs(
    student: Mapping[str, list[Rollout]],
    teacher: Mapping[str, list[Rollout]],
    config: PairsConfig,
    sequence_length: int,
) -> tuple[list[Pair], dict[str, int]]:
    """Returns the pairs, problem by problem, and the counts, in which `problems` equals `kept` plus the rejected
    problems, which are counted by reason.

    The i-th incorrect student sample is paired with the i-th correct teacher sample. If there are fewer correct teacher
    samples than incorrect student samples, the teacher samples are reused in turn. `teacher` contains the problems for
    which the student has a usable incorrect sample.
    """
    pairs: list[Pair] = []
    reasons: Counter[str] = Counter()
    for problem_id, mine in student.items():
        theirs = [] if rejection("student", mine, Outcome.WRONG, sequence_length) else teacher[problem_id]
        reason = without_pair(mine, theirs, config.min_margin, sequence_length)
        if reason is not None:
            reasons[reason] += 1
            continue
        right = usable(theirs, Outcome.RIGHT, sequence_length)
        for i, wrong in enumerate(usable(mine, Outcome.WRONG, sequence_length)[: config.pairs_per_problem]):
            pairs.append(_pair(right[i % len(right)], wrong, fraction_right(theirs) - fraction_right(mine)))
    kept = len(student) - reasons.total()
    return pairs, {"problems": len(student), "kept": kept, **dict(sorted(reasons.items())), "pairs": len(pairs)}


def solved_by(student: Mapping[str, list[Rollout]], sequence_length: int) -> list[Rollout]:
    """Returns one usable answer for each problem that the student answered correctly in every sample."""
    always = [mine for mine in student.values() if all(r.right for r in mine)]
    return [found[0] for mine in always if (found := usable(mine, Outcome.RIGHT, sequence_length))]


def fraction_right(rollouts: Sequence[Rollout]) -> float:
    """Returns the fraction of correct samples, as in avg@k."""
    return sum(r.right for r in rollouts) / len(rollouts)


def _pair(right: Rollout, wrong: Rollout, margin: float) -> Pair:
    sides = [Side(r.sample, r.text, r.tokens, r.forced) for r in (right, wrong)]
    return Pair(wrong.problem_id, wrong.family, wrong.question, wrong.reference, wrong.prompt, margin, *sides)


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Writes the pairs to a Parquet file atomically, and writes the file's digest. The same pairs produce the same
    bytes."""
    write_table(path, map(asdict, pairs), SCHEMA)
    seal(path)


def read_pairs(path: Path) -> list[Pair]:
    """Reads the pairs of a file, in order. Raises UserError with the file's path if the file cannot be read."""
    rows = read_table(path, SCHEMA)
    return [Pair(**{**r, "chosen": Side(**r["chosen"]), "rejected": Side(**r["rejected"])}) for r in rows]
