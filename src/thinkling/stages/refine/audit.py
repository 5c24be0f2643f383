"""The audit: jobs.parquet, a human-readable record of every job and its rounds, and the verifiers' verdicts on all
solutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from thinkling.data.reading import Reading
from thinkling.data.tables import write_table
from thinkling.stages.refine.jobs import Job
from thinkling.stages.refine.style import Solution
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many
from thinkling.verify.verdict import Outcome

FILE = "jobs.parquet"
_ROUND = pa.struct(
    [
        ("reasoning", pa.string()),
        ("answer", pa.string()),
        ("critiques", pa.list_(pa.string())),
        ("met", pa.list_(pa.bool_())),
        ("outcome", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("problem_id", pa.string()),
        ("family", pa.string()),
        ("question", pa.string()),
        ("drafter", pa.int32()),
        ("noisy", pa.bool_()),
        ("checklist_version", pa.int32()),
        ("checklist", pa.list_(pa.string())),
        ("rounds", pa.list_(_ROUND)),
        ("end", pa.string()),
        ("summary", pa.string()),
        ("chain", pa.string()),
        ("rejected", pa.string()),
    ]
)


def outcomes(jobs: Sequence[Job], problems: Mapping[str, Problem]) -> dict[tuple[str, int], Outcome]:
    """Returns the verifier's outcome for every solution, by job and round. Only this function reads reference
    answers."""
    places = [(job, number) for job in jobs for number in range(len(job.rounds))]
    samples = [(problems[job.asked.problem_id], Reading.of(job.rounds[n].solution.answer)) for job, n in places]
    verdicts = verify_many(samples)
    return {(job.asked.key, n): verdict.outcome for (job, n), verdict in zip(places, verdicts, strict=True)}


def outcome_of(job: Job, solution: Solution, found: Mapping[tuple[str, int], Outcome]) -> Outcome:
    """Returns the outcome of one of a job's solutions."""
    number = next(n for n, r in enumerate(job.rounds) if r.solution == solution)
    return found[job.asked.key, number]


def write_jobs(path: Path, jobs: Sequence[Job], found: Mapping[tuple[str, int], Outcome], version: int) -> None:
    """Writes the jobs, their rounds and the verdicts to a Parquet file atomically."""
    write_table(path, (_row(job, found, version) for job in jobs), SCHEMA)


def _row(job: Job, found: Mapping[tuple[str, int], Outcome], version: int) -> dict[str, Any]:
    rounds = [
        {
            "reasoning": r.solution.reasoning,
            "answer": r.solution.answer,
            "critiques": r.critiques,
            "met": r.met,
            "outcome": found[job.asked.key, number].value,
        }
        for number, r in enumerate(job.rounds)
    ]
    return {
        "key": job.asked.key,
        "problem_id": job.asked.problem_id,
        "family": job.asked.family,
        "question": job.asked.question,
        "drafter": job.drafter,
        "noisy": job.noisy,
        "checklist_version": version,
        "checklist": job.items,
        "rounds": rounds,
        "end": job.end,
        "summary": job.chain.summary if job.chain else None,
        "chain": job.chain.text if job.chain else None,
        "rejected": job.rejected,
    }


def quality(
    jobs: Sequence[Job], found: Mapping[tuple[str, int], Outcome], kept: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Measures the quality of each role according to the verifier. The result is only reported, and never used to
    decide which solutions are kept.

    `drafts`, `noisy_drafts`, `final` and `kept`: number of solutions, and how many are correct. `critic`: number of
    judged solutions, by whether all items were met and whether the answer is correct. `revisions`: number of incorrect
    solutions that were revised, and how many of the revisions are correct.
    """

    def right(job: Job, number: int) -> bool:
        return found[job.asked.key, number] is Outcome.RIGHT

    drafted = [job for job in jobs if job.rounds]
    critic: Counter[str] = Counter()
    wrong_before = mended = 0
    for job in drafted:
        for number, one in enumerate(job.rounds):
            if one.met is not None:
                critic[f"{'right' if right(job, number) else 'wrong'}_{'met' if all(one.met) else 'unmet'}"] += 1
            if number and not right(job, number - 1):
                wrong_before += 1
                mended += right(job, number)

    def first(chosen: Sequence[Job]) -> dict[str, int]:
        return {"n": len(chosen), "right": sum(right(job, 0) for job in chosen)}

    return {
        "drafts": first([job for job in drafted if not job.noisy]),
        "noisy_drafts": first([job for job in drafted if job.noisy]),
        "final": _last(drafted, found),
        "kept": {"n": len(kept), "right": sum(outcome is Outcome.RIGHT for outcome in kept.values())},
        "critic": dict(sorted(critic.items())),
        "revisions": {"of_wrong": wrong_before, "right": mended},
    }


def _last(jobs: Sequence[Job], found: Mapping[tuple[str, int], Outcome]) -> dict[str, int]:
    last = [found[job.asked.key, len(job.rounds) - 1] for job in jobs]
    return {"n": len(last), "right": sum(outcome is Outcome.RIGHT for outcome in last)}
