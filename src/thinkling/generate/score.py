"""avg@k: k samples a problem, a verdict on each, the mean with its interval. Used by evaluate, refine, dpd and rl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.atomic import replacing
from thinkling.data.chat_template import OURS, ChatTemplate
from thinkling.data.conversations import parse_assistant, render_prompt
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Completion, Engine, Request, Sampling
from thinkling.generate.tools import Form, generate_with_tools, model_tokens
from thinkling.seeds import derive
from thinkling.tasks.examples import prompt
from thinkling.tasks.pages import document_answer, document_prompt
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome, Verdict

RESAMPLES = 10_000

ROLLOUTS = pa.schema(
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
        ("forced", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True)
class Rollout:
    """One sample: what was asked, what came, and the verdict. Columns of rollouts Parquet, in this order."""

    problem_id: str
    family: str
    sample: int
    question: str
    reference: str
    text: str
    outcome: str
    tier: str
    detail: str
    thinks: bool
    """Whether a non-empty thought stands before the answer."""
    finish_reason: str
    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """Under the sampling temperature, before top-p; 0.0 on forced tokens."""
    forced: list[bool]
    """Tokens that a tool wrote."""

    @property
    def right(self) -> bool:
        return self.outcome == Outcome.RIGHT


@dataclass(frozen=True)
class Score:
    """avg@k over a task set. `mean` and the interval are None where a verification failed: the score is withheld."""

    k: int
    n: int
    mean: float | None
    low: float | None
    high: float | None
    thinking_share: float
    accuracy_thinking: float | None
    """Accuracy among the samples that think; None where none does."""
    per_family: dict[str, float]
    outcomes: dict[str, int]
    truncated: int
    """Samples cut off by max_new_tokens: wrong, all of them."""


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
    on_chunk: Callable[[int], None] | None = None,
) -> list[Rollout]:
    """k samples of every problem with their verdicts, in the order of the problems.

    Problems are worked off `chunk` at a time. With a `store` each finished chunk is a Parquet file there, and one that is
    there already is read, not sampled again: a killed run resumes with equal results, since a chunk's batches are always
    composed alike. `sampling.stop_ids` are replaced by those of the form. `on_chunk(samples)` follows the progress.
    """
    rollouts: list[Rollout] = []
    for number, start in enumerate(range(0, len(problems), chunk)):
        part = problems[start : start + chunk]
        path = store / f"{number:05d}.parquet" if store is not None else None
        if path is not None and path.exists():
            found = read_rollouts(path)
        else:
            found = _sample(engine, part, tokenizer, form, k, sampling, max_new_tokens, seed, template)
            if path is not None:
                write_rollouts(path, found)
        rollouts += found
        if on_chunk is not None:
            on_chunk(len(found))
    return rollouts


def _sample(
    engine: Engine,
    problems: Sequence[Problem],
    tokenizer: Tokenizer,
    form: Form,
    k: int,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    template: ChatTemplate,
) -> list[Rollout]:
    stops = tokenizer.stop_ids if form == "chat" else frozenset({tokenizer.end_of_text_id})
    settings = Sampling(sampling.temperature, sampling.top_p, stops)
    prompts = [encode_question(problem, tokenizer, form, template) for problem in problems]
    requests = [
        Request(ids, derive(seed, problem.id, sample), max_new_tokens)
        for problem, ids in zip(problems, prompts, strict=True)
        for sample in range(k)
    ]
    completions = generate_with_tools(engine, requests, settings, tokenizer, form)
    return [
        judge(problems[i // k], i % k, request, completion, tokenizer, form)
        for i, (request, completion) in enumerate(zip(requests, completions, strict=True))
    ]


def encode_question(
    problem: Problem, tokenizer: Tokenizer, form: Form, template: ChatTemplate = OURS
) -> tuple[int, ...]:
    """The prompt of a problem: the user's turn, or the page up to where the working starts."""
    if form == "chat":
        return tuple(render_prompt(prompt(problem), tokenizer, template=template).tolist())
    return tuple(tokenizer.encode(document_prompt(problem)).tolist())


def judge(
    problem: Problem, sample: int, request: Request, completion: Completion, tokenizer: Tokenizer, form: Form
) -> Rollout:
    """The verdict on a completion. One that was cut off is wrong, whatever stands in it."""
    text = tokenizer.decode(completion.tokens)
    if form == "chat":
        answer, thinks = text, bool(parse_assistant(text.partition("<|im_end|>")[0])[0].strip())
    else:
        answer = document_answer(text)
        thinks = bool(text.partition("<|endoftext|>")[0].rpartition(".")[0].strip())
    if completion.finish_reason == "length":
        verdict = Verdict(Outcome.WRONG, "length", f"cut off after {model_tokens(completion)} tokens")
    else:
        verdict = verify(problem, answer)
    return Rollout(
        problem_id=problem.id,
        family=problem.family,
        sample=sample,
        question=problem.question,
        reference=problem.answer,
        text=text,
        outcome=str(verdict.outcome),
        tier=verdict.tier,
        detail=verdict.detail,
        thinks=thinks,
        finish_reason=completion.finish_reason,
        prompt=list(request.prompt),
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        forced=completion.forced,
    )


def summarise(rollouts: Sequence[Rollout], resamples: int = RESAMPLES) -> Score:
    """avg@k: right is 1, anything else 0; the mean over a problem's samples, then over problems.

    The interval is a 95% bootstrap over problems (fixed seed). ValueError where problems have unequal numbers of samples.
    """
    samples: dict[str, list[bool]] = {}
    families: dict[str, list[bool]] = {}
    for rollout in rollouts:
        samples.setdefault(rollout.problem_id, []).append(rollout.right)
        families.setdefault(rollout.family, []).append(rollout.right)
    sizes = {len(values) for values in samples.values()}
    if len(sizes) != 1:
        raise ValueError(f"problems have {sorted(sizes)} samples; avg@k needs the same number of each, at least one")
    per_problem = np.array([np.mean(values) for values in samples.values()])
    low, high = bootstrap(per_problem, resamples)
    outcomes = Counter(rollout.outcome for rollout in rollouts)
    thinking = [rollout.right for rollout in rollouts if rollout.thinks]
    withheld = outcomes[Outcome.ERROR] > 0
    return Score(
        k=sizes.pop(),
        n=len(per_problem),
        mean=None if withheld else float(per_problem.mean()),
        low=None if withheld else low,
        high=None if withheld else high,
        thinking_share=len(thinking) / len(rollouts),
        accuracy_thinking=float(np.mean(thinking)) if thinking else None,
        per_family={name: float(np.mean(values)) for name, values in families.items()},
        outcomes={str(outcome): outcomes[outcome] for outcome in Outcome},
        truncated=sum(rollout.finish_reason == "length" for rollout in rollouts),
    )


def bootstrap(per_problem: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the mean of (n,) values, resampled over problems."""
    rng, n = np.random.default_rng(seed), len(per_problem)
    means = np.concatenate(
        [per_problem[rng.integers(0, n, (min(500, resamples - i), n))].mean(1) for i in range(0, resamples, 500)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """Writes rollouts Parquet, whole or not at all."""
    table = pa.Table.from_pylist([asdict(rollout) for rollout in rollouts], schema=ROLLOUTS)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rollouts(path: Path) -> list[Rollout]:
    """Rollouts of a Parquet file, or of all files of a directory in the order of their names."""
    rows: list[dict[str, Any]] = pq.read_table(path, schema=ROLLOUTS).to_pylist()
    return [Rollout(**row) for row in rows]
