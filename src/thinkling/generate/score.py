"""avg@k: the mean score over k judged samples per problem, with a confidence interval over problems.

Finished chunks of samples are stored, so that a killed run does not generate them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.engine import Engine, FinishReason, ReportsEnded, Request, Sampling
from thinkling.generate.renderer import Renderer
from thinkling.generate.rollouts import Rollout, read_rollouts, write_rollouts
from thinkling.generate.turns import MAX_CALLS, generate_with_tools
from thinkling.progress import Task
from thinkling.seeds import derive
from thinkling.stats import bootstrap_interval
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many
from thinkling.verify.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Score:
    """avg@k over `n` problems: a correct sample counts 1, any other sample 0. All fractions are between 0 and 1."""

    k: int
    n: int
    mean: float
    low: float
    high: float
    """`low` and `high` are the bounds of the 95% percentile-bootstrap interval over problems."""
    thinking_fraction: float
    """Fraction of samples in which the model reasons before answering."""
    accuracy_thinking: float | None
    """Fraction of the samples with reasoning that are correct; None if no sample has reasoning."""
    per_family: dict[str, float]
    outcomes: dict[str, int]
    """Number of samples by outcome; all five outcomes are always present."""
    truncated: int
    """Number of samples cut off by max_new_tokens, which count as incorrect."""


@dataclass(frozen=True)
class Sampler:
    """A model and its sampling settings: everything that `sample_and_score` needs except the problems."""

    engine: Engine
    renderer: Renderer
    sampling: Sampling
    max_new_tokens: int
    """Maximum number of tokens that the model may write per sample, excluding tool output."""
    max_tool_calls: int = MAX_CALLS
    task: Task | None = None
    """The progress bar of samples, if one is shown."""


def judge(samples: Sequence[tuple[Problem, Reading, FinishReason]]) -> list[Verdict]:
    """Returns the verdicts, in order. A truncated sample always counts as incorrect."""
    found = iter(verify_many([(problem, reading) for problem, reading, reason in samples if reason != "length"]))
    cut_off = Verdict(Outcome.WRONG, "length", "cut off by max_new_tokens")
    return [cut_off if reason == "length" else next(found) for _, _, reason in samples]


def sample_and_score(
    sampler: Sampler,
    problems: Sequence[Problem],
    k: int,
    seed: int,
    chunk: int = 128,
    store: Path | None = None,
    on_chunk: Callable[[Sequence[Rollout]], None] | None = None,
    first_chunk: int = 0,
) -> list[Rollout]:
    """Returns `k` judged samples of each problem, in the order of the problems.

    A sample's random numbers depend only on (seed, problem, sample index). `chunk` problems are sampled together and
    then written to `store`. A chunk that already exists is read instead of sampled, so a killed run resumes where it
    stopped and ends with the same bytes. Stored samples whose verifier failed are judged again. `on_chunk` is called
    with each chunk's rollouts. `first_chunk` is the number of the first chunk's file, for processes that share the
    chunks of one store.

    Raises UserError if a stored chunk belongs to different problems.
    """
    if k < 1 or chunk < 1:
        raise ValueError(f"k is {k} and chunk is {chunk}; both must be at least 1")
    rollouts: list[Rollout] = []
    for number, start in enumerate(range(0, len(problems), chunk), first_chunk):
        group = problems[start : start + chunk]
        path = None if store is None else store / f"{number:05d}.parquet"
        if path is not None and path.exists():
            found = _stored(path, group, k, sampler.renderer)
            if sampler.task is not None:
                sampler.task.advance(len(found))
        else:
            with _reported(sampler, len(group) * k):
                found = _sampled(sampler, group, k, seed)
            if path is not None:
                write_rollouts(path, found)
        rollouts += found
        if on_chunk is not None:
            on_chunk(found)
    return rollouts


@contextmanager
def _reported(sampler: Sampler, n: int) -> Iterator[None]:
    """Context that advances the sampler's progress bar by `n` samples. If the engine reports its progress, the bar
    advances during generation; otherwise it advances when the context ends."""
    task, engine, left = sampler.task, sampler.engine, n
    if task is None:
        yield
        return

    def ended(number: int) -> None:
        nonlocal left
        number = min(number, left)  # a sample with tool calls is reported once per call
        left -= number
        task.advance(number)

    if isinstance(engine, ReportsEnded):
        engine.on_ended = ended
    try:
        yield
    finally:
        if isinstance(engine, ReportsEnded):
            engine.on_ended = None
    ended(left)


def _sampled(sampler: Sampler, problems: Sequence[Problem], k: int, seed: int) -> list[Rollout]:
    renderer = sampler.renderer
    pairs = [(problem, sample) for problem in problems for sample in range(k)]
    prompts = [prompt for problem in problems for prompt in [renderer.prompt_of(problem).tolist()] * k]
    requests = [
        Request(tuple(prompt), derive(seed, "rollout", problem.id, sample), sampler.max_new_tokens)
        for (problem, sample), prompt in zip(pairs, prompts, strict=True)
    ]
    tools = [problem.tools for problem, _ in pairs]
    completions = generate_with_tools(
        sampler.engine, requests, tools, sampler.sampling, renderer, max_calls=sampler.max_tool_calls
    )
    readings = [renderer.read(completion) for completion in completions]
    verdicts = judge(
        [(problem, r, c.finish_reason) for (problem, _), r, c in zip(pairs, readings, completions, strict=True)]
    )
    return [
        Rollout(
            problem_id=problem.id,
            family=problem.family,
            sample=sample,
            question=problem.question,
            reference=problem.answer,
            text=reading.text,
            outcome=verdict.outcome.value,
            tier=verdict.tier,
            detail=verdict.detail,
            thinks=bool(reading.reasoning.strip()),
            finish_reason=completion.finish_reason,
            prompt=prompt,
            tokens=completion.tokens,
            logprobs=completion.logprobs,
            versions=completion.versions,
            forced=completion.forced,
            read=reading,
        )
        for (problem, sample), prompt, completion, reading, verdict in zip(
            pairs, prompts, completions, readings, verdicts, strict=True
        )
    ]


def _stored(path: Path, problems: Sequence[Problem], k: int, renderer: Renderer) -> list[Rollout]:
    """Reads a finished chunk. Samples on which a verifier failed are judged again, and the stored chunk is then
    replaced."""
    rollouts = [replace(r, read=renderer.read(r)) for r in read_rollouts(path)]
    asked = [(problem, sample) for problem in problems for sample in range(k)]
    if [(r.problem_id, r.sample) for r in rollouts] != [(problem.id, sample) for problem, sample in asked]:
        raise UserError(
            f"{path}: the stored samples are not of this stage's problems; remove {path.parent} to sample again"
        )
    failed = [i for i, r in enumerate(rollouts) if r.outcome == Outcome.ERROR]
    if not failed:
        return rollouts
    again = judge([(asked[i][0], rollouts[i].reading, rollouts[i].finish_reason) for i in failed])
    for i, verdict in zip(failed, again, strict=True):
        rollouts[i] = replace(rollouts[i], outcome=verdict.outcome.value, tier=verdict.tier, detail=verdict.detail)
    write_rollouts(path, rollouts)
    return rollouts


def summarise(rollouts: Sequence[Rollout]) -> Score:
    """Computes avg@k: the mean over each problem's samples, then over problems.

    Raises UserError instead of returning a score if a verifier failed on any sample. Raises ValueError if problems have
    different numbers of samples, or if there are no samples."""
    failed = [r for r in rollouts if r.outcome == Outcome.ERROR]
    if failed:
        raise UserError(
            f"verifier {failed[0].tier} failed on {len(failed)} of {len(rollouts)} samples, first on "
            f"{failed[0].question!r}: {failed[0].detail}; no score is reported; fix the verifier and run again"
        )
    samples: dict[str, list[bool]] = {}
    families: dict[str, list[bool]] = {}
    for rollout in rollouts:
        samples.setdefault(rollout.problem_id, []).append(rollout.right)
        families.setdefault(rollout.family, []).append(rollout.right)
    sizes = {len(right) for right in samples.values()}
    if len(sizes) != 1:
        raise ValueError(
            f"problems have {sorted(sizes)} samples; avg@k needs the same number of samples for each, at least one"
        )
    means = np.array([np.mean(right) for right in samples.values()])
    low, high = bootstrap_interval(means)
    thinking = [r.right for r in rollouts if r.thinks]
    counts = Counter(r.outcome for r in rollouts)
    return Score(
        k=sizes.pop(),
        n=len(samples),
        mean=float(means.mean()),
        low=low,
        high=high,
        thinking_fraction=len(thinking) / len(rollouts),
        accuracy_thinking=float(np.mean(thinking)) if thinking else None,
        per_family={family: float(np.mean(right)) for family, right in families.items()},
        outcomes={outcome.value: counts[outcome] for outcome in Outcome},
        truncated=sum(r.truncated for r in rollouts),
    )
