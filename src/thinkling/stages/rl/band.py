"""The pass-rate band: problems that the initial model answers correctly in some, but not all, of its samples.

Only these problems can produce groups with different rewards; all others cost samples without yielding a gradient. Pass
rates are measured with the initial model at the start of every stage, because every stage changes them.

With a preference reward, one extra sample is drawn per problem and becomes the problem's reference. A fixed reference
from the initial model keeps rewards comparable across steps and requires only one comparison per sample.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from thinkling.data.seals import seal
from thinkling.data.tables import read_table, write_table
from thinkling.errors import UserError
from thinkling.generate.first_look import refuse_unreadable
from thinkling.generate.pairwise import Pairwise
from thinkling.generate.rollouts import Rollout
from thinkling.generate.score import Sampler, sample_and_score
from thinkling.stages.rl.config import BandConfig
from thinkling.stages.rl.rewards import answer_of, prefer
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome

BAND = "band.parquet"
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("problem_id", pa.string()),
        ("family", pa.string()),
        ("question", pa.string()),
        ("passes", pa.int32()),
        ("undecided", pa.int32()),
        ("samples", pa.int32()),
        ("kept", pa.bool_()),
        ("reference", pa.string()),
    ]
)


@dataclass(frozen=True)
class PassRate:
    """A row of band.parquet."""

    source: str
    problem_id: str
    family: str
    question: str
    passes: int
    """Number of samples that are correct or, with a preference reward, preferred to the reference."""
    undecided: int
    """Number of samples whose verdict is neither right nor wrong, or that have no reference. A problem with such
    samples is dropped."""
    samples: int
    kept: bool
    reference: str | None = None
    """Answer with which samples are compared. Null for verdict rewards, and if the initial model's answer cannot be
    parsed."""


def inside(passes: int, samples: int, low: float, high: float) -> bool:
    """Whether a pass rate lies strictly between low and high."""
    return low < passes / samples < high


def pass_rates(source: str, rollouts: Sequence[Rollout], band: BandConfig) -> list[PassRate]:
    """Returns one row per problem, in the order of the rollouts."""
    rows = []
    for problem_id, samples in _by_problem(rollouts).items():
        passes = sum(r.right for r in samples)
        undecided = len(samples) - passes - sum(r.outcome == Outcome.WRONG for r in samples)
        kept = not undecided and inside(passes, len(samples), band.low, band.high)
        first = samples[0]
        rows.append(PassRate(source, problem_id, first.family, first.question, passes, undecided, len(samples), kept))
    return rows


def preference_rates(
    source: str, rollouts: Sequence[Rollout], band: BandConfig, preference_model: Pairwise
) -> list[PassRate]:
    """Like `pass_rates`, but based on preferences: the first sample of each problem is the reference for the other
    samples."""
    by_problem = _by_problem(rollouts)
    references = {problem_id: answer_of(samples[0], preference_model) for problem_id, samples in by_problem.items()}
    pairs = [(r, reference) for r in rollouts if r.sample and (reference := references[r.problem_id]) is not None]
    preferred = Counter(
        r.problem_id for (r, _), found in zip(pairs, prefer(preference_model, pairs), strict=True) if found.score > 0
    )
    rows = []
    for problem_id, (first, *others) in by_problem.items():
        passes, reference, n = preferred[problem_id], references[problem_id], len(others)
        kept = reference is not None and inside(passes, n, band.low, band.high)
        undecided = n if reference is None else 0
        rows.append(PassRate(source, problem_id, first.family, first.question, passes, undecided, n, kept, reference))
    return rows


def _by_problem(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.problem_id, []).append(rollout)
    return found


def measure(
    source: str,
    problems: Sequence[Problem],
    sampler: Sampler,
    band: BandConfig,
    seed: int,
    directory: Path,
    preference_model: Pairwise | None = None,
) -> list[PassRate]:
    """Measures pass rates with `band.samples` samples per problem, based on preferences if a preference model is given
    and on verdicts otherwise.

    Completed chunks are stored in `directory` until `write` has written all rows.

    Raises UserError if no sample of the first chunk is usable, or if the verifier failed on every sample, which means
    that it cannot work on this machine, for example because there is no sandbox.
    """
    directory.mkdir(parents=True, exist_ok=True)
    chunks = 0

    def look(found: Sequence[Rollout]) -> None:
        nonlocal chunks
        if not chunks:
            first_look = [(r.reading, r.truncated) for r in found]
            refuse_unreadable(first_look, sampler.max_new_tokens, f"problems.{source}")
        chunks += 1

    rollouts = sample_and_score(
        sampler, problems, band.samples + (preference_model is not None), seed, store=directory, on_chunk=look
    )
    if all(r.outcome == Outcome.ERROR for r in rollouts):
        raise UserError(
            f"problems.{source}: its verifier failed on all {len(rollouts)} samples ({rollouts[0].detail}); fix the "
            "cause or, if this machine cannot run the sandbox, set sandbox: none in the recipe"
        )
    return (
        pass_rates(source, rollouts, band)
        if preference_model is None
        else preference_rates(source, rollouts, band, preference_model)
    )


def write(path: Path, rows: Sequence[PassRate], chunks: Path) -> None:
    """Writes band.parquet and deletes the chunks from which it was made."""
    write_table(path, map(asdict, rows), SCHEMA)
    seal(path)
    shutil.rmtree(chunks, ignore_errors=True)


def read(path: Path) -> list[PassRate]:
    """Reads the rows of band.parquet, in order."""
    return [PassRate(**row) for row in read_table(path, SCHEMA)]


def histogram(rows: Sequence[PassRate]) -> dict[int, int]:
    """Returns a mapping from number of passing samples, from 0 to the number of samples per problem, to number of
    problems."""
    counts = Counter(row.passes for row in rows)
    return {passes: counts[passes] for passes in range(rows[0].samples + 1)}


def check(stage: str, source: str, rows: Sequence[PassRate], band: BandConfig) -> None:
    """Raises UserError, with the histogram, if the band keeps fewer than `min_prompts` problems of the source."""
    kept = sum(row.kept for row in rows)
    if kept >= band.min_prompts:
        return
    bars = " ".join(f"{passes}:{n}" for passes, n in histogram(rows).items() if n)
    undecided = sum(row.undecided > 0 for row in rows)
    tail = f"; {undecided} problems have samples without a verdict" if undecided else ""
    raise UserError(
        f"stages.{stage}.band: {kept} of {len(rows)} problems of {source!r} have a pass rate strictly between "
        f"{band.low} and {band.high}, but min_prompts is {band.min_prompts}; problems by number of correct samples "
        f"out of {band.samples}: {bars}{tail}. Raise n_problems, use problems closer to the model's ability, or lower "
        "min_prompts"
    )
