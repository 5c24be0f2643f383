"""avg@k: k judged samples per problem; their mean with an interval over problems. Finished chunks survive a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.engine import Engine, FinishReason, Request, Sampling
from thinkling.generate.renderer import Renderer
from thinkling.generate.rollouts import Rollout, read_rollouts, write_rollouts
from thinkling.generate.turns import MAX_CALLS, generate_with_tools
from thinkling.seeds import derive
from thinkling.stats import bootstrap_interval
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many
from thinkling.verify.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Score:
    """avg@k over `n` problems: right counts 1, every other outcome 0. All fractions are in 0–1."""

    k: int
    n: int
    mean: float
    low: float
    high: float
    """95% percentile-bootstrap interval over problems."""
    thinking_fraction: float
    """Fraction of samples that reason before answering."""
    accuracy_thinking: float | None
    """Fraction of those that are right; None if no sample reasons."""
    per_family: dict[str, float]
    outcomes: dict[str, int]
    """Samples by outcome, always with all five keys."""
    truncated: int
    """Samples cut off by max_new_tokens, which count as wrong."""


@dataclass(frozen=True)
class Sampler:
    """A model and how to sample from it: everything `sample_and_score` needs besides the problems."""

    engine: Engine
    renderer: Renderer
    sampling: Sampling
    max_new_tokens: int
    """Maximum tokens the model may write per sample; tool output does not count."""
    max_tool_calls: int = MAX_CALLS


def judge(samples: Sequence[tuple[Problem, Reading, FinishReason]]) -> list[Verdict]:
    """Verdicts, in order. A truncated sample is always wrong."""
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
    """`k` judged samples of each problem, in the order of the problems.

    A sample's random numbers depend only on (seed, problem, sample index). `chunk` problems are sampled together and
    then written to `store`; an existing chunk is read instead, so a killed run resumes where it was and ends with the
    same bytes. Samples whose verifier failed are judged again. `on_chunk` is called with each chunk's rollouts.
    `first_chunk` is the number of the first chunk's file, for processes that share the chunks of one store.

    Raises UserError if a stored chunk belongs to other problems.
    """
    if k < 1 or chunk < 1:
        raise ValueError(f"k is {k} and chunk is {chunk}; both must be at least 1")
    rollouts: list[Rollout] = []
    for number, start in enumerate(range(0, len(problems), chunk), first_chunk):
        group = problems[start : start + chunk]
        path = None if store is None else store / f"{number:05d}.parquet"
        if path is not None and path.exists():
            found = _stored(path, group, k, sampler.renderer)
        else:
            found = _sampled(sampler, group, k, seed)
            if path is not None:
                write_rollouts(path, found)
        rollouts += found
        if on_chunk is not None:
            on_chunk(found)
    return rollouts


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
    """A finished chunk; if a verifier failed on samples, they are judged again and the chunk is replaced."""
    rollouts = [replace(r, read=renderer.read(r)) for r in read_rollouts(path)]
    asked = [(problem, sample) for problem in problems for sample in range(k)]
    if [(r.problem_id, r.sample) for r in rollouts] != [(problem.id, sample) for problem, sample in asked]:
        raise UserError(f"{path}: contains samples of other problems; remove {path.parent} to sample again")
    failed = [i for i, r in enumerate(rollouts) if r.outcome == Outcome.ERROR]
    if not failed:
        return rollouts
    again = judge([(asked[i][0], rollouts[i].reading, rollouts[i].finish_reason) for i in failed])
    for i, verdict in zip(failed, again, strict=True):
        rollouts[i] = replace(rollouts[i], outcome=verdict.outcome.value, tier=verdict.tier, detail=verdict.detail)
    write_rollouts(path, rollouts)
    return rollouts


def summarise(rollouts: Sequence[Rollout]) -> Score:
    """avg@k: the mean over each problem's samples, then over problems.

    Raises UserError if a verifier failed on any sample: the score is withheld. Raises ValueError if problems have
    different numbers of samples, or there are none."""
    failed = [r for r in rollouts if r.outcome == Outcome.ERROR]
    if failed:
        raise UserError(
            f"verifier {failed[0].tier} failed on {len(failed)} of {len(rollouts)} samples, first on "
            f"{failed[0].question!r}: {failed[0].detail}; the score is withheld: fix the verifier and run again"
        )
    samples: dict[str, list[bool]] = {}
    families: dict[str, list[bool]] = {}
    for rollout in rollouts:
        samples.setdefault(rollout.problem_id, []).append(rollout.right)
        families.setdefault(rollout.family, []).append(rollout.right)
    sizes = {len(right) for right in samples.values()}
    if len(sizes) != 1:
        raise ValueError(f"problems have {sorted(sizes)} samples; avg@k needs the same number of each, at least one")
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
