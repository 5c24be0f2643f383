"""The loop over a chunk of jobs: draft and checklist, then critique and revision until each job ends, then the
chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from thinkling.data.conversations import asking
from thinkling.data.reading import Reading
from thinkling.generate.backends import Replier, Reply
from thinkling.generate.client import ServedModel
from thinkling.generate.engine import Sampling
from thinkling.generate.first_look import refuse_unreadable
from thinkling.generate.unreadable import Readings
from thinkling.seeds import derive
from thinkling.stages.refine.config import BackendConfig, RefineConfig
from thinkling.stages.refine.events import Events, Question
from thinkling.stages.refine.jobs import Asked, Job, Round
from thinkling.stages.refine.style import Solution, Style


class RefineLoop:
    """Passes jobs through all roles. `models`: a model for each of `config.backends`."""

    def __init__(self, config: RefineConfig, style: Style, models: Mapping[str, Replier], seed: int) -> None:
        self.config, self.style, self.models, self.seed = config, style, models, seed
        self.readings = Readings()
        self.on_phase: Callable[[str], None] = lambda event: None
        """Called with the kind of question after each of the `n_phases` of a chunk."""

    @property
    def n_phases(self) -> int:
        """Number of phases of a chunk. In a phase, one kind of question is asked about all open jobs."""
        return 3 + self.config.rounds + (self.config.rounds + 1) * len(self.config.evaluators)

    def run(self, asked: Sequence[Asked], first: int, events: Events) -> list[Job]:
        """Processes a chunk and returns its finished jobs. Each job has a chain or a reason for having none. `first`:
        number of the first job."""
        jobs = [
            Job(one, (first + i) % len(self.config.drafters), self.style.is_noisy(self.seed, one.key))
            for i, one in enumerate(asked)
        ]
        self._draft(jobs, events)
        self._checklist(jobs, events)
        for number in range(self.config.rounds + 1):
            if number:
                self._revise(jobs, number, events)
            self._critique(jobs, number, events)
        self._chain(jobs, events)
        return jobs

    def _draft(self, jobs: list[Job], events: Events) -> None:
        replies = self._ask(
            events, jobs, "draft", 0, lambda job: f"drafters.{job.drafter}", lambda job: job.asked.question
        )
        self._look(replies)
        for job, reply in replies:
            solution = self.style.draft(reply) if reply.finish_reason == "stop" else None
            self._count(f"drafters.{job.drafter}", job, reply, solution is not None)
            if solution is None:
                job.end = "draft_unreadable"
                continue
            job.rounds.append(
                Round(self.style.with_noise(solution, self.seed, job.asked.key) if job.noisy else solution)
            )

    def _look(self, replies: Sequence[tuple[Job, Reply]]) -> None:
        """Raises UserError if all replies of a drafter are unusable for the same reason."""
        for i, drafter in enumerate(self.config.drafters):
            mine = [reply for job, reply in replies if job.drafter == i]
            read = [
                (Reading(r.reasoning, r.text or None, (), bool(r.text.strip()), r.text or r.reasoning), r.finish_reason)
                for r in mine
            ]
            first_look = [(reading, reason == "length") for reading, reason in read]
            refuse_unreadable(first_look, drafter.max_new_tokens, f"refine: drafters.{i}")

    def _checklist(self, jobs: list[Job], events: Events) -> None:
        def prompt(job: Job) -> str:
            return self.style.checklist_prompt(job.asked.question)

        for job, reply in self._ask(events, jobs, "checklist", 0, lambda _: "checklist", prompt):
            job.items = self.style.checklist(whole(reply)) or []
            self._count("checklist", job, reply, bool(job.items))
            if not job.items:
                job.end = "checklist_unreadable"

    def _critique(self, jobs: list[Job], number: int, events: Events) -> None:
        def prompt(job: Job) -> str:
            return self.style.evaluate_prompt(job.asked.question, job.last.solution, job.items)

        for i in range(len(self.config.evaluators)):
            replies = self._ask(events, jobs, "critique", number, lambda _, i=i: f"evaluators.{i}", prompt)
            for job, reply in replies:
                job.last.critiques.append(reply.text)
                job.last.verdicts.append(self.style.critique(whole(reply), job.items))
                self._count(f"evaluators.{i}", job, reply, job.last.verdicts[-1] is not None)
        for job in jobs:
            if job.open:
                job.judge(self.config.rounds, self.config.patience)

    def _revise(self, jobs: list[Job], number: int, events: Events) -> None:
        def prompt(job: Job) -> str:
            return self.style.revise_prompt(job.asked.question, job.last.solution, job.items, job.last.harshest)

        for job, reply in self._ask(events, jobs, "revision", number, lambda _: "reviser", prompt):
            solution = self.style.revision(whole(reply))
            self._count("reviser", job, reply, solution is not None)
            if solution is None:
                job.end = "revision_unreadable"
            else:
                job.rounds.append(Round(solution))

    def _chain(self, jobs: list[Job], events: Events) -> None:
        done = [job for job in jobs if final(job, self.config.keep) is not None]
        for job in jobs:
            job.rejected = None if job in done else job.end

        def prompt(job: Job) -> str:
            return self.style.chain_prompt(job.asked.question, solution_of(job))

        def solution_of(job: Job) -> Solution:
            solution = final(job, self.config.keep)
            assert solution is not None
            return solution

        for job, reply in self._ask(events, done, "chain", 0, lambda _: "chain", prompt, ended=True):
            job.chain = self.style.chain(whole(reply), solution_of(job))
            self._count("chain", job, reply, job.chain is not None)
            if job.chain is None:
                job.rejected = "chain_unreadable"
            elif not job.chain.agrees:
                job.rejected = "chain_disagrees"

    def _count(self, field: str, job: Job, reply: Reply, read: bool) -> None:
        reason = "cut off" if reply.finish_reason != "stop" else "out of form" if reply.text.strip() else "empty"
        self.readings.add(field, reply, None if read else reason, job.asked.problem_id)

    def _ask(
        self,
        events: Events,
        jobs: Sequence[Job],
        event: str,
        number: int,
        field: Callable[[Job], str],
        prompt: Callable[[Job], str],
        ended: bool = False,
    ) -> list[tuple[Job, Reply]]:
        """Asks a question about each open job or, if `ended`, about each given job whether or not it is open. Returns
        these jobs paired with the replies."""
        chosen = [job for job in jobs if job.open or ended]
        questions = []
        for job in chosen:
            name = field(job)
            seed = derive(self.seed, event, number, name, job.asked.key)
            by = f"{name} {named(self.config.backends[name])}"
            questions.append(Question(job.asked.key, event, number, by, seed, prompt(job)))
        names = [field(job) for job in chosen]
        phase = f"{event}-{number}" + (f"-{names[0].partition('.')[2]}" if event == "critique" and names else "")
        systems = [job.asked.system if event == "draft" else "" for job in chosen]
        batches = self._batches(names, systems, questions)
        for name, batch in batches.items() if events.is_answered(phase) else ():
            model = self.models[name]
            if isinstance(model, ServedModel):
                model.recount(*batch.request)
        replies = events.ask(phase, questions, lambda asked: self._answer(len(asked), batches))
        self.on_phase(event)
        return list(zip(chosen, replies, strict=True)) if chosen else []

    def _batches(
        self, names: Sequence[str], systems: Sequence[str], questions: Sequence[Question]
    ) -> dict[str, _Batch]:
        """Returns the batch of questions for each backend, by configuration field."""
        found: dict[str, _Batch] = {}
        for name in dict.fromkeys(names):
            backend = self.config.backends[name]
            places = [i for i, other in enumerate(names) if other == name]
            found[name] = _Batch(
                places,
                (
                    [asking(questions[i].prompt, systems[i]) for i in places],
                    [questions[i].seed for i in places],
                    Sampling(backend.temperature, backend.top_p),
                    backend.max_new_tokens,
                ),
            )
        return found

    def _answer(self, n: int, batches: Mapping[str, _Batch]) -> list[Reply]:
        """Returns the replies in the order of the `n` questions. Questions to the same backend are sent together."""
        found: dict[int, Reply] = {}
        for name, batch in batches.items():
            found |= dict(zip(batch.places, self.models[name].reply(*batch.request), strict=True))
        return [found[i] for i in range(n)]


class _Batch(NamedTuple):
    """Questions to one backend: their positions within the phase, and the arguments of `Replier.reply`."""

    places: list[int]
    request: tuple[list[list[dict[str, Any]]], list[int], Sampling, int]


def whole(reply: Reply) -> str:
    """Returns the text of the reply. If the reply was truncated, returns an empty text, which every parser rejects."""
    return reply.text if reply.finish_reason == "stop" else ""


def final(job: Job, keep: str) -> Solution | None:
    """Returns the solution that a job yields, or None. If `keep` is `any`, a job that did not meet all items yields its
    best judged solution."""
    if job.end == "met":
        return job.last.solution
    judged = [r for r in job.rounds if r.met is not None]
    return job.best.solution if keep == "any" and judged else None


def named(backend: BackendConfig) -> str:
    """Returns the name of the backend for the records. It never includes the API key."""
    return f"input {backend.input}" if backend.input is not None else f"{backend.url} {backend.model}"
