from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.generate.fake_server import Bar
from thinkling.data.reading import Reading
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate import score as score_module
from thinkling.generate.engine import Completion, Engine, Request, Sampling
from thinkling.generate.hermes import call_text
from thinkling.generate.native import NativeEngine
from thinkling.generate.rollouts import Rollout, read_rollouts, write_rollouts
from thinkling.generate.score import Sampler, sample_and_score, summarise
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.puzzles.pages import document, document_prompt
from thinkling.tasks.problem import Problem
from thinkling.verify.registry import verify
from thinkling.verify.verdict import Outcome, Verdict

from .conftest import Form, renderer_of

SAMPLING = Sampling(0.8, 0.95)


def sampler(engine: Engine, form: Form, tokenizer: Tokenizer, max_new_tokens: int = 200) -> Sampler:
    return Sampler(engine, renderer_of(form, tokenizer), SAMPLING, max_new_tokens)


class Solver:
    """An engine that writes `solve(problem, number of the sample)`, token by token, between what tools write."""

    version = 1

    def __init__(
        self, problems: Sequence[Problem], tokenizer: Tokenizer, form: Form, solve: Callable[[Problem, int], str]
    ) -> None:
        self.tokenizer, self.form, self.solve = tokenizer, form, solve
        self.prompts = {
            tuple(renderer_of(form, tokenizer).prompt_of(problem).tolist()): problem for problem in problems
        }
        self.samples: dict[int, tuple[Problem, int]] = {}
        self.asked = 0

    def update_weights(self, version: int) -> None:
        self.version = version

    def release(self) -> None:
        """Nothing to free."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return [self._one(request, sampling) for request in requests]

    def _one(self, request: Request, sampling: Sampling) -> Completion:
        if request.seed not in self.samples:
            problem = self.prompts[request.prompt]
            self.samples[request.seed] = problem, sum(p == problem for p, _ in self.samples.values())
            self.asked += 1
        problem, number = self.samples[request.seed]
        text = self.tokenizer.decode(request.prompt[-request.rng_offset :] if request.rng_offset else [])
        rest = self.solve(problem, number)
        if "</tool_response>" in text:  # what comes after the call
            rest = rest.partition("</tool_call>")[2]
        elif text.endswith("<tool_call>"):
            rest = rest.partition("<tool_call>")[2]
        ids = [int(i) for i in self.tokenizer.encode(rest, markup=True)][: request.max_new_tokens]
        end = next((i + 1 for i, token in enumerate(ids) if token in sampling.stop_ids), None)
        ids = ids[:end]
        return Completion(ids, [-1.0] * len(ids), [1] * len(ids), "length" if end is None else "stop")


def worked(problem: Problem, form: Form) -> str:
    """What a perfect model writes; the tool's response is left out."""
    if form == "document":
        page = document(problem).removeprefix(document_prompt(problem))
        return re.sub(r"\n<tool_response>.*</tool_response>\n", "", page, flags=re.DOTALL)
    reasoning = f"<think>\n{problem.reasoning}\n</think>\n\n"
    if problem.call is None:
        return f"{reasoning}{problem.answer}<|im_end|>"
    call = call_text(problem.tools[0], problem.call)
    return f"{reasoning}{call}{problem.answer}<|im_end|>"


def direct(problem: Problem, form: Form, answer: str) -> str:
    """An answer without reasoning."""
    return f".{answer}\n" if form == "document" else f"<think>\n\n</think>\n\n{answer}<|im_end|>"


@pytest.mark.parametrize("form", ["chat", "document"])
def test_perfect_and_hopeless_models(problems: list[Problem], tokenizer: Tokenizer, form: Form) -> None:
    solver = Solver(problems, tokenizer, form, lambda problem, _: worked(problem, form))
    rollouts = sample_and_score(sampler(solver, form, tokenizer, 200), problems, 2, seed=0)
    assert [(r.problem_id, r.sample) for r in rollouts] == [(p.id, i) for p in problems for i in range(2)]
    for rollout, problem in zip(rollouts[::2], problems, strict=True):
        assert rollout.right, rollout
        assert rollout.thinks
        assert rollout.tool_calls == len(problem.tools)
        assert rollout.n_tokens == len(tokenizer.encode(worked(problem, form), markup=True))
        assert (rollout.question, rollout.reference) == (problem.question, problem.answer)
    perfect = summarise(rollouts)
    assert (perfect.mean, perfect.low, perfect.high, perfect.k, perfect.n) == (1.0, 1.0, 1.0, 2, len(problems))
    assert (perfect.thinking_fraction, perfect.accuracy_thinking, perfect.truncated) == (1.0, 1.0, 0)

    solver = Solver(problems, tokenizer, form, lambda problem, _: direct(problem, form, "X" + problem.answer))
    hopeless = summarise(sample_and_score(sampler(solver, form, tokenizer, 200), problems, 1, seed=0))
    assert (hopeless.mean, hopeless.low, hopeless.high) == (0.0, 0.0, 0.0)
    assert (hopeless.thinking_fraction, hopeless.accuracy_thinking) == (0.0, None)
    assert hopeless.outcomes == {"right": 0, "wrong": len(problems), "unverifiable": 0, "timeout": 0, "error": 0}


@pytest.mark.parametrize("form", ["chat", "document"])
def test_shares_and_families(problems: list[Problem], tokenizer: Tokenizer, form: Form) -> None:
    """Sample 0 of 4 is worked and right, 1 direct and right, 2 direct and wrong, 3 cut off though right so far."""
    long = "AB" * 150

    def solve(problem: Problem, number: int) -> str:
        end = "\n" if form == "document" else "<|im_end|>"
        return [
            worked(problem, form),
            direct(problem, form, problem.answer),
            direct(problem, form, "Q"),
            direct(problem, form, problem.answer).removesuffix(end) + " " + long,
        ][number]

    rollouts = sample_and_score(
        sampler(Solver(problems, tokenizer, form, solve), form, tokenizer, 200), problems, 4, seed=0
    )
    score = summarise(rollouts)
    assert score.mean == 0.5
    assert score.per_family == {problem.family: 0.5 for problem in problems}
    assert (score.thinking_fraction, score.accuracy_thinking) == (0.25, 1.0)
    assert score.truncated == len(problems)
    assert score.outcomes["right"] == score.outcomes["wrong"] == 2 * len(problems)
    assert {r.tier for r in rollouts if r.finish_reason == "length"} == {"length"}


def _model(tokenizer: Tokenizer) -> Decoder:
    model = Decoder(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("form", ["chat", "document"])
def test_a_killed_scoring_resumes_with_the_same_bytes(
    problems: list[Problem], tokenizer: Tokenizer, form: Form, tmp_path: Path
) -> None:
    engine = NativeEngine(_model(tokenizer), 8)
    seen: list[int] = []

    def run(store: Path, on_progress: Callable[[int], None] = seen.append) -> list[Rollout]:
        return sample_and_score(
            sampler(engine, form, tokenizer, 24),
            problems,
            3,
            seed=5,
            chunk=5,
            store=store,
            on_chunk=lambda found: on_progress(len(found)),
        )

    class Killed(Exception):
        pass

    def die(samples: int) -> None:
        seen.append(samples)
        if len(seen) == 2:
            raise Killed

    whole = run(tmp_path / "whole")
    assert sum(seen) == len(whole) == 3 * len(problems)
    seen.clear()
    with pytest.raises(Killed):
        run(tmp_path / "killed", die)
    stored = sorted(p.name for p in (tmp_path / "killed").glob("*.parquet"))
    assert stored == ["00000.parquet", "00001.parquet"]
    asked: list[int] = []
    original = engine.generate
    engine.generate = lambda requests, sampling: (asked.append(len(requests)), original(requests, sampling))[1]  # type: ignore[method-assign]
    assert run(tmp_path / "killed") == whole
    assert sum(asked) >= 3 * (len(problems) - 10)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    asked.clear()
    assert run(tmp_path / "whole") == whole
    assert not asked


def test_samples_follow_from_seed_problem_and_number_alone(problems: list[Problem], tokenizer: Tokenizer) -> None:
    def run(part: list[Problem], k: int, chunk: int, batch: int, seed: int = 5) -> dict[tuple[str, int], list[int]]:
        engine = NativeEngine(_model(tokenizer), batch)
        found = sample_and_score(sampler(engine, "chat", tokenizer, 16), part, k, seed, chunk)
        return {(r.problem_id, r.sample): r.tokens for r in found}

    whole = run(problems, 3, 128, 16)
    assert run(problems[::-1], 2, 3, 5).items() <= whole.items()
    other = run(problems, 3, 128, 16, seed=6)
    assert all(other[key] != tokens for key, tokens in whole.items())
    assert len({tuple(tokens) for tokens in whole.values()}) == len(whole)


def test_a_failing_verifier_withholds_the_score_and_is_asked_again(
    problems: list[Problem], tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = Solver(problems, tokenizer, "chat", lambda problem, _: worked(problem, "chat"))
    bad = problems[3].id
    original = score_module.verify_many
    judged: list[str] = []

    def failing(samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        failure = Verdict(Outcome.ERROR, "exact", "KeyError: x")
        return [
            failure if problem.id == bad else verdict
            for (problem, _), verdict in zip(samples, original(samples), strict=True)
        ]

    def counting(samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        judged.extend(problem.id for problem, _ in samples)
        return original(samples)

    monkeypatch.setattr(score_module, "verify_many", failing)
    rollouts = sample_and_score(sampler(solver, "chat", tokenizer, 200), problems, 2, 0, store=tmp_path)
    with pytest.raises(UserError, match=r"verifier exact failed on 2 of .*KeyError: x; no score is reported"):
        summarise(rollouts)
    monkeypatch.setattr(score_module, "verify_many", counting)
    asked = solver.asked
    mended = sample_and_score(sampler(solver, "chat", tokenizer, 200), problems, 2, 0, store=tmp_path)
    assert solver.asked == asked
    assert judged == [bad, bad]
    assert summarise(mended).mean == 1.0
    assert read_rollouts(tmp_path / "00000.parquet") == mended


@pytest.mark.parametrize("form", ["chat", "document"])
def test_a_chunk_is_judged_as_one_batch(
    problems: list[Problem], tokenizer: Tokenizer, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts are those of one sample at a time, each at its own sample; what was cut off is not asked about."""

    def solve(problem: Problem, number: int) -> str:
        if number == 1:
            return "AB" * 150
        return worked(problem, form) if number == 0 else direct(problem, form, f"Q{problem.answer}")

    batches: list[int] = []
    original = score_module.verify_many

    def counting(samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        batches.append(len(samples))
        return original(samples)

    monkeypatch.setattr(score_module, "verify_many", counting)
    solver = Solver(problems, tokenizer, form, solve)
    rollouts = sample_and_score(sampler(solver, form, tokenizer, 200), problems, 3, 0, chunk=4)
    assert batches == [2 * len(problems[start : start + 4]) for start in range(0, len(problems), 4)]
    by_id = {problem.id: problem for problem in problems}
    for rollout in rollouts:
        if rollout.sample == 1:
            assert (rollout.outcome, rollout.tier) == ("wrong", "length")
            continue
        alone = verify(by_id[rollout.problem_id], rollout.reading)
        assert (rollout.outcome, rollout.tier, rollout.detail) == (alone.outcome, alone.tier, alone.detail)


def test_stored_chunks_of_other_problems_are_refused(
    problems: list[Problem], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    solver = Solver(problems, tokenizer, "chat", lambda problem, _: worked(problem, "chat"))
    found = sample_and_score(sampler(solver, "chat", tokenizer, 200), problems[:4], 1, 0, store=tmp_path)
    with pytest.raises(UserError, match=r"00000\.parquet: the stored samples are not of this stage's problems"):
        sample_and_score(sampler(solver, "chat", tokenizer, 200), problems[1:5], 1, 0, store=tmp_path)
    with pytest.raises(UserError, match=r"00000\.parquet: the stored samples are not of this stage's problems"):
        sample_and_score(sampler(solver, "chat", tokenizer, 200), problems[:4], 2, 0, store=tmp_path)
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(UserError, match=r"00000\.parquet: cannot be read as Parquet"):
        sample_and_score(sampler(solver, "chat", tokenizer, 200), problems[:4], 1, 0, store=tmp_path)
    with pytest.raises(ValueError, match="same number of samples for each"):
        summarise([*found, replace(found[0], sample=1)])


def test_rollouts_survive_parquet(tmp_path: Path) -> None:
    lists = [1], [5, 6], [float(np.float32(-0.1)), 0.0], [2, 2], [False, True]
    rollout = Rollout("a", "sum", 3, "sum A1", "1", "ü\ufffd", "timeout", "t", "d", True, "stop", *lists)
    write_rollouts(tmp_path / "r.parquet", [rollout, rollout])
    assert read_rollouts(tmp_path / "r.parquet") == [rollout, rollout]
    assert (rollout.n_tokens, rollout.tool_calls, rollout.right) == (1, 1, False)


def test_a_sampler_says_how_many_calls_are_answered(problems: list[Problem], tokenizer: Tokenizer) -> None:
    calling = [problem for problem in problems if problem.tools][:1]
    text = worked(calling[0], "chat").partition("</tool_call>")[0] + "</tool_call>"
    for most in (0, 1, 2):
        solver = Solver(calling, tokenizer, "chat", lambda problem, _: f"{text}{text}{text}3<|im_end|>")
        asked = replace(sampler(solver, "chat", tokenizer, 400), max_tool_calls=most)
        assert [rollout.tool_calls for rollout in sample_and_score(asked, calling, 1, seed=0)] == [most]


def test_problems_of_one_id_are_each_asked_their_own_question(problems: list[Problem], tokenizer: Tokenizer) -> None:
    """The same question has one id, and may be asked with two templates."""
    alike = [problems[0], replace(problems[1], id=problems[0].id)]
    solver = Solver(alike, tokenizer, "chat", lambda problem, _: direct(problem, "chat", problem.question))
    rollouts = sample_and_score(sampler(solver, "chat", tokenizer, 400), alike, 1, seed=0)
    renderer = renderer_of("chat", tokenizer)
    assert [r.prompt for r in rollouts] == [renderer.prompt_of(problem).tolist() for problem in alike]


def test_progress_moves_with_every_sample_and_not_with_every_chunk(
    problems: list[Problem], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A chunk of 128 problems was sampled and judged before the bar moved."""
    bar = Bar(8, "samples", 0)
    engine = NativeEngine(_model(tokenizer), max_concurrent=2)
    asking = replace(sampler(engine, "chat", tokenizer, max_new_tokens=6), task=bar)
    first = sample_and_score(asking, problems[:4], 2, 0, store=tmp_path)
    assert bar.done == 8
    assert bar.moves > 2
    assert engine.on_ended is None
    again = sample_and_score(asking, problems[:4], 2, 0, store=tmp_path)
    assert again == first
    assert bar.done == 16
    assert sample_and_score(replace(asking, task=None), problems[:4], 2, 0) == first


def test_progress_without_an_engine_that_reports_it_moves_by_the_chunk(
    problems: list[Problem], tokenizer: Tokenizer
) -> None:
    bar = Bar(len(problems), "samples", 0)
    solver = Solver(problems, tokenizer, "chat", lambda problem, _: worked(problem, "chat"))
    sample_and_score(replace(sampler(solver, "chat", tokenizer), task=bar), problems, 1, 0)
    assert (bar.done, bar.moves) == (len(problems), 1)
