"""avg@k: k samples a problem, judged; their mean with an interval over problems. Finished chunks survive a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thinkling.data.chat_template import OURS, ChatTemplate
from thinkling.data.conversations import parse_assistant, render_prompt
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.engine import Completion, Engine, Request, Sampling
from thinkling.generate.rollouts import Rollout, read_rollouts, write_rollouts
from thinkling.generate.tools import Form, generate_with_tools, newline_ids
from thinkling.puzzles import examples, pages
from thinkling.seeds import derive
from thinkling.stats import bootstrap_interval
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify_many
from thinkling.verify.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Score:
    """avg@k over `n` problems: right is 1, every other outcome 0. All shares are in 0–1."""

    k: int
    n: int
    mean: float
    low: float
    high: float
    """95% percentile-bootstrap interval over problems."""
    thinking_share: float
    """Samples with something in their thought."""
    accuracy_thinking: float | None
    """Right among those; None where no sample thinks."""
    per_family: dict[str, float]
    outcomes: dict[str, int]
    """Samples by outcome, all five named."""
    truncated: int
    """Samples cut off by max_new_tokens; they are wrong."""


def stop_ids(tokenizer: Tokenizer, form: Form) -> frozenset[int]:
    """Where an answer ends: a chat turn at its end token, a page at its first newline or the end of text."""
    return tokenizer.stop_ids if form == "chat" else newline_ids(tokenizer) | {tokenizer.end_of_text_id}


def prompt_ids(problem: Problem, tokenizer: Tokenizer, form: Form, template: ChatTemplate = OURS) -> list[int]:
    """What the model is given: a user turn with the question, or a page up to where its working starts."""
    if form == "chat":
        return render_prompt(examples.prompt(problem), tokenizer, template=template).tolist()
    return tokenizer.encode(pages.document_prompt(problem)).tolist()


def judge(samples: Sequence[tuple[Problem, str, str]], form: Form) -> list[Verdict]:
    """Verdicts on (problem, text, finish reason), in order. What was cut off is wrong, whatever stands in it."""
    whole = [
        (problem, text if form == "chat" else pages.document_answer(text))
        for problem, text, finish_reason in samples
        if finish_reason != "length"
    ]
    found = iter(verify_many(whole))
    cut_off = Verdict(Outcome.WRONG, "length", "cut off by max_new_tokens")
    return [cut_off if finish_reason == "length" else next(found) for _, _, finish_reason in samples]


def thinks(text: str, form: Form) -> bool:
    """Whether anything stands in the first turn's thought, or on a page before the answer's full stop."""
    if form == "chat":
        return bool(parse_assistant(text.partition("<|im_end|>")[0])[0].strip())
    return bool(text.partition("<|endoftext|>")[0].rpartition(".")[0].strip())


def sample_and_score(
    engine: Engine,
    problems: Sequence[Problem],
    tokenizer: Tokenizer,
    form: Form,
    k: int,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    chunk: int = 128,
    store: Path | None = None,
    template: ChatTemplate = OURS,
    on_progress: Callable[[int], None] | None = None,
    first_chunk: int = 0,
) -> list[Rollout]:
    """`k` judged samples of each problem, problem after problem.

    The stop ids of the form are added to those of `sampling`. A sample's random numbers follow from (seed, problem,
    sample number) alone. `chunk` problems are sampled together and then written to `store`; a chunk that is there is
    read instead, so a killed scoring goes on where it was and ends with the same bytes. Samples whose verifier failed
    are judged again. `on_progress` is told how many samples each chunk added. `first_chunk` numbers the first chunk's
    file, for processes that share the chunks of one store.

    Raises UserError where a stored chunk belongs to other problems.
    """
    if k < 1 or chunk < 1:
        raise ValueError(f"k is {k} and chunk is {chunk}; both are at least 1")
    sampling = replace(sampling, stop_ids=sampling.stop_ids | stop_ids(tokenizer, form))
    rollouts: list[Rollout] = []
    for number, start in enumerate(range(0, len(problems), chunk), first_chunk):
        group = problems[start : start + chunk]
        path = None if store is None else store / f"{number:05d}.parquet"
        if path is not None and path.exists():
            found = _stored(path, group, k, form)
        else:
            pairs = [(problem, sample) for problem in group for sample in range(k)]
            prompts = {problem.id: prompt_ids(problem, tokenizer, form, template) for problem in group}
            requests = [
                Request(tuple(prompts[problem.id]), derive(seed, "rollout", problem.id, sample), max_new_tokens)
                for problem, sample in pairs
            ]
            completions = generate_with_tools(engine, requests, sampling, tokenizer, form)
            texts = [tokenizer.decode(completion.tokens) for completion in completions]
            verdicts = judge(
                [
                    (problem, text, c.finish_reason)
                    for (problem, _), text, c in zip(pairs, texts, completions, strict=True)
                ],
                form,
            )
            found = [
                _rollout(*pair, prompts[pair[0].id], completion, text, verdict, form)
                for pair, completion, text, verdict in zip(pairs, completions, texts, verdicts, strict=True)
            ]
            if path is not None:
                write_rollouts(path, found)
        rollouts += found
        if on_progress is not None:
            on_progress(len(found))
    return rollouts


def _rollout(
    problem: Problem, sample: int, prompt: list[int], completion: Completion, text: str, verdict: Verdict, form: Form
) -> Rollout:
    return Rollout(
        problem_id=problem.id,
        family=problem.family,
        sample=sample,
        question=problem.question,
        reference=problem.answer,
        text=text,
        outcome=verdict.outcome.value,
        tier=verdict.tier,
        detail=verdict.detail,
        thinks=thinks(text, form),
        finish_reason=completion.finish_reason,
        prompt=prompt,
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        versions=completion.versions,
        forced=completion.forced,
    )


def _stored(path: Path, problems: Sequence[Problem], k: int, form: Form) -> list[Rollout]:
    """A finished chunk; samples whose verifier failed are judged again, and the chunk replaced."""
    rollouts = read_rollouts(path)
    if [(r.problem_id, r.sample) for r in rollouts] != [(p.id, sample) for p in problems for sample in range(k)]:
        raise UserError(f"{path}: holds samples of other problems; remove {path.parent} to sample anew")
    if all(r.outcome != Outcome.ERROR for r in rollouts):
        return rollouts
    by_id = {problem.id: problem for problem in problems}
    failed = [i for i, r in enumerate(rollouts) if r.outcome == Outcome.ERROR]
    again = [(by_id[r.problem_id], r.text, r.finish_reason) for r in (rollouts[i] for i in failed)]
    for i, verdict in zip(failed, judge(again, form), strict=True):
        rollouts[i] = replace(rollouts[i], outcome=verdict.outcome.value, tier=verdict.tier, detail=verdict.detail)
    write_rollouts(path, rollouts)
    return rollouts


def summarise(rollouts: Sequence[Rollout]) -> Score:
    """avg@k: the mean over a problem's samples, then over problems.

    UserError where a verifier failed on any sample: the score is withheld. ValueError where problems have unequal
    numbers of samples, or there are none."""
    failed = [r for r in rollouts if r.outcome == Outcome.ERROR]
    if failed:
        raise UserError(
            f"verifier {failed[0].tier} failed on {len(failed)} of {len(rollouts)} samples, first on "
            f"{failed[0].question!r}: {failed[0].detail}; the score is withheld: mend the verifier and run again"
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
        thinking_share=len(thinking) / len(rollouts),
        accuracy_thinking=float(np.mean(thinking)) if thinking else None,
        per_family={family: float(np.mean(right)) for family, right in families.items()},
        outcomes={outcome.value: counts[outcome] for outcome in Outcome},
        truncated=sum(r.finish_reason == "length" for r in rollouts),
    )
