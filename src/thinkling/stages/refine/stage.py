"""The refine stage: problems → jobs through all roles → conversations with refined solutions and their chains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from thinkling.data.conversations import Conversation, asking, write_conversations
from thinkling.data.seals import drop_damaged
from thinkling.errors import UserError
from thinkling.generate.backends import LocalModel, Replier
from thinkling.generate.client import ServedModel, report_spending
from thinkling.generate.tools import listings
from thinkling.generate.unreadable import Readings, say
from thinkling.stages.base import StageContext
from thinkling.stages.refine.audit import FILE, outcome_of, outcomes, quality, write_jobs
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.refine.events import Events
from thinkling.stages.refine.jobs import Asked, Job
from thinkling.stages.refine.loop import RefineLoop, final
from thinkling.stages.refine.style import Style
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome


def run(config: RefineConfig, ctx: StageContext) -> None:
    """Refines solutions of training problems. A resumed run continues after the last completed phase.

    Raises UserError if a source, family, model or server is unavailable, or if no job yields a solution.
    """
    style = config.make_style()
    problems = {problem.id: problem for problem in chosen_problems(config, ctx, style)}
    asked = [Asked.of(problem, ctx.seed, config.checklist_version) for problem in problems.values()]
    models = backends(config, ctx)
    loop = RefineLoop(config, style, models, ctx.seed)
    jobs: list[Job] = []
    drop_damaged(ctx.directory / "events", ctx.progress.warn, "asking again")
    with ctx.progress.track(ctx.name, len(asked), "jobs") as task:
        for number, first in enumerate(range(0, len(asked), config.chunk)):
            events, chunk = Events(ctx.directory / "events", number), asked[first : first + config.chunk]
            share = len(chunk) / loop.n_phases
            loop.on_phase = lambda event, share=share: task.advance(share, phase=event)
            jobs += loop.run(chunk, first, events)
    finish(config, ctx, jobs, problems, loop.readings)
    served = {field: model.spending for field, model in models.items() if isinstance(model, ServedModel)}
    if served:
        ctx.counts["served"] = report_spending(served, ctx.name, ctx.progress)


def chosen_problems(config: RefineConfig, ctx: StageContext, style: Style) -> list[Problem]:
    """Returns the training problems, sorted by id so that the families are mixed within each chunk."""
    wanted = config.problems
    found = ctx.sources[wanted.source].problems("train", wanted.n_problems, ctx.seed, wanted.families)
    for family in dict.fromkeys(problem.family for problem in found):
        if (reason := style.refuses(family)) is not None:
            raise UserError(f"stages.{ctx.name}.problems.families: {family!r}: {reason}")
    return sorted(found, key=lambda problem: problem.id)


def backends(config: RefineConfig, ctx: StageContext) -> dict[str, Replier]:
    """Returns a model for each configuration field that specifies a backend. Fields with the same backend share a
    model."""
    made: dict[str, Replier] = {}
    found: dict[str, Replier] = {}
    for field, backend in config.backends.items():
        identity = backend.identity
        if identity not in made:
            where = f"stages.{ctx.name}.{field}"
            made[identity] = (
                LocalModel(ctx.inputs[backend.input].model_dir, backend.max_concurrent, backend.chat)
                if backend.input is not None
                else ServedModel(backend, where, ctx.answers, ctx.progress)
            )
        found[field] = made[identity]
    return found


def finish(
    config: RefineConfig, ctx: StageContext, jobs: list[Job], problems: Mapping[str, Problem], readings: Readings
) -> None:
    """Writes the conversations, the audit and the counts. Verdicts are computed after all jobs have ended, and only
    `keep: verified` uses them to decide which solutions are kept."""
    readings.write(ctx.directory)
    say(readings.counts(), f"stages.{ctx.name}", ctx.progress)
    found = outcomes(jobs, problems)
    kept: dict[str, Outcome] = {}
    conversations = []
    for job in jobs:
        solution = final(job, config.keep)
        if job.rejected is not None or solution is None or job.chain is None:
            continue
        outcome = outcome_of(job, solution, found)
        if config.keep == "verified" and outcome is not Outcome.RIGHT:
            job.rejected = f"verifier_{outcome.value}"
            continue
        kept[job.asked.key] = outcome
        answer = {"role": "assistant", "content": solution.answer, "reasoning_content": job.chain.text}
        problem = problems[job.asked.problem_id]
        conversations.append(
            Conversation(
                id=job.asked.key,
                messages=[*asking(problem.question, problem.system), answer],
                source=f"{config.problems.source}/{job.asked.family}",
                problem_id=problem.id,
                tools=tuple(listings(problem.tools)) if problem.announce_tools else (),
            )
        )
    write_jobs(ctx.directory / FILE, jobs, found, config.checklist_version)
    rejected = Counter(job.rejected for job in jobs if job.rejected is not None)
    _say_kept(ctx, len(jobs), kept, rejected)
    if not conversations:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(rejected.items()))
        raise UserError(
            f"stages.{ctx.name}: none of {len(jobs)} jobs yielded a solution ({reasons}); use different models, or set "
            "keep: any"
        )
    write_conversations(ctx.directory / "conversations.parquet", conversations)
    ctx.counts.update(
        jobs=len(jobs),
        kept=len(conversations),
        rejected=dict(sorted(rejected.items())),
        ends=dict(sorted(Counter(job.end or "" for job in jobs).items())),
        rounds=dict(sorted(Counter(str(len(job.rounds) - 1) for job in jobs if job.rounds).items())),
        kept_by_family=dict(sorted(Counter(c.source.rpartition("/")[2] for c in conversations).items())),
        quality=quality(jobs, found, kept),
        replies=readings.counts(),
    )


def _say_kept(ctx: StageContext, n: int, kept: Mapping[str, Outcome], rejected: Counter[str]) -> None:
    """Reports how many jobs were kept and why the others were rejected, and warns if the verifiers accept none of the
    kept solutions."""
    reasons = "".join(f", {reason} {count:,}" for reason, count in sorted(rejected.items()))
    ctx.progress.note(f"stages.{ctx.name}: kept {len(kept):,} of {n:,} jobs{reasons}")
    by_outcome = Counter(kept.values())
    if kept and not by_outcome[Outcome.RIGHT] and by_outcome[Outcome.WRONG]:
        ctx.progress.warn(
            f"stages.{ctx.name}: kept {len(kept):,} jobs, but the verifiers accept none of the solutions "
            f"({by_outcome[Outcome.WRONG]:,} wrong); read {FILE}, or set keep: verified"
        )
