"""The stage from two models to a third: counts, files, resumption, mistakes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stages.dpd.knowing import context as knowing_context
from thinkling.data.artifact import content_files
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError
from thinkling.generate.engine import Completion
from thinkling.generate.rollouts import read_rollouts
from thinkling.model.huggingface import load_pretrained
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.stages.base import StageContext
from thinkling.stages.dpd import stage
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.pairs import read_pairs
from thinkling.train.float8 import use_float8

ROOT = Path(__file__).parents[3]


@pytest.fixture
def context(tmp_path: Path, save_model: Callable[..., Path]) -> Callable[[str], StageContext]:
    for seed, (role, hidden) in enumerate([("model", 16), ("teacher", 32)]):
        save_model(tmp_path / role, seed=seed, hidden=hidden)

    def make(name: str) -> StageContext:
        (tmp_path / name).mkdir(exist_ok=True)
        return knowing_context(tmp_path / name, tmp_path)

    return make


@pytest.fixture
def engine(knowing, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer, context, make_config):
    wanted = stage.problems(make_config(), context("unused"))
    knowing.learn(wanted, tokenizer)
    monkeypatch.setattr(stage, "make_engine", knowing)
    return knowing


def metrics(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_the_student_starts_as_its_reference_in_fp8(context, engine, make_config, monkeypatch) -> None:
    """With plain PyTorch's products. On a machine without a suitable GPU, a whole run with fp8 is refused."""
    replaced = []
    monkeypatch.setattr(stage, "use_float8", lambda *args: (replaced.append(args[1]), use_float8(*args))[1])
    ctx = context("run")
    stage.run(make_config(precision={"compute": "bfloat16", "float8": "rowwise"}), ctx)
    lines = metrics(ctx.directory)
    assert replaced == ["rowwise"]
    assert abs(lines[0]["dpo_margin"]) < 1e-3
    assert lines[-1]["dpo"] < lines[0]["dpo"]
    plain = context("plain")
    stage.run(make_config(precision={"compute": "bfloat16"}), plain)
    found, other = (read_pairs(one.directory / "pairs.parquet")[0].chosen for one in (ctx, plain))
    assert found.reference_log_prob != other.reference_log_prob
    assert found.reference_log_prob == pytest.approx(other.reference_log_prob, rel=0.05)


def test_pairs_counts_and_training(context, engine, make_config) -> None:
    ctx = context("run")
    stage.run(make_config(), ctx)
    counts, pairs = ctx.counts, read_pairs(ctx.directory / "pairs.parquet")
    assert counts["problems"] == 24
    assert counts["kept"] + counts["student_not_wrong"] == 24
    assert counts["pairs"] == counts["kept"] == len(pairs) > 4
    assert counts["teacher"]["mean"] == 1.0
    assert counts["student"]["right"] + counts["student"]["wrong"] == counts["student"]["samples"] == 48
    teacher_asked = {
        r.problem_id for p in (ctx.directory / "samples/teacher").glob("*.parquet") for r in read_rollouts(p)
    }
    assert teacher_asked == {pair.problem_id for pair in pairs}, "the teacher is asked only where the student erred"
    tools = [pair for pair in pairs if pair.family == "calc"]
    assert tools
    assert all(sum(pair.chosen.forced) > 0 for pair in tools)
    assert all(pair.chosen.reference_log_prob < 0 for pair in pairs)
    lines = metrics(ctx.directory)
    assert [line["step"] for line in lines] == list(range(6))
    assert lines[0]["dpo"] == pytest.approx(0.693147, rel=1e-4), "the student starts as the reference"
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][k] for k in ("dpo", "kl_chosen", "kl_rejected")))
    assert lines[-1]["dpo"] < lines[0]["dpo"]
    assert lines[-1]["kl_chosen"] < lines[0]["kl_chosen"]
    assert {line["pairs"] for line in lines} == {4}
    assert load_pretrained(ctx.directory / "model").config.hidden_size == 16
    assert not list(ctx.directory.glob("checkpoints*"))


def test_killed_anywhere_and_resumed_equals_uninterrupted(
    context, engine, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while sampling each model, while references are computed, and in a step after a checkpoint."""
    monkeypatch.setattr(stage, "CHUNK", 5)
    config: DpdConfig = make_config(micro_batch_size=2, solved_per_step=2)
    whole, cut = context("whole"), context("cut")
    stage.run(config, whole)
    generate, references, pack = engine.generate, stage.sequence_log_probs, stage.pack_pairs
    state = {"calls": 0, "limit": 0}

    def dying(function: Callable) -> Callable:
        def wrapped(*arguments, **options):
            state["calls"] += 1
            if state["calls"] > state["limit"]:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return wrapped

    def killed_in(owner: object, name: str, function: Callable, limit: int) -> None:
        state.update(calls=0, limit=limit)
        monkeypatch.setattr(owner, name, dying(function))
        with pytest.raises(KeyboardInterrupt):
            stage.run(config, replace(cut, counts={}))
        monkeypatch.setattr(owner, name, function)

    killed_in(engine, "generate", generate, 3)
    assert list((cut.directory / "samples/student").iterdir())
    killed_in(engine, "generate", generate, 9)
    assert list((cut.directory / "samples/teacher").iterdir())
    killed_in(stage, "sequence_log_probs", references, 2)
    assert not (cut.directory / "pairs.parquet").exists()
    made = -(-len(read_pairs(whole.directory / "pairs.parquet")) // 2)
    killed_in(stage, "pack_pairs", pack, made + 2 * 3)
    before = engine.calls
    assert list((cut.directory / "checkpoints").iterdir())
    stage.run(config, cut)
    assert engine.calls == before, "samples were drawn again"
    assert cut.counts == whole.counts
    assert list(content_files(cut.directory)) == list(content_files(whole.directory))
    for name in content_files(whole.directory):
        assert (cut.directory / name).read_bytes() == (whole.directory / name).read_bytes(), name


def test_two_ranks_equal_one(context, engine, make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSDP2 on gloo: the ranks share the samples, the references and the pairs of a step."""
    monkeypatch.setattr(stage, "CHUNK", 5)
    config, alone, shared = make_config(micro_batch_size=1, solved_per_step=2), context("alone"), context("shared")
    stage.run(config, alone)
    out = shared.directory / "counts.json"
    inputs = shared.directory.parent
    job = {"config": config.model_dump(), "directory": str(shared.directory), "inputs": str(inputs), "out": str(out)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # On CPUs, also where there is a GPU: two ranks on one card would wait for each other.
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.stages.dpd.knowing", json.dumps(job)]
    processes = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert json.loads(out.read_text()) == alone.counts
    assert read_pairs(shared.directory / "pairs.parquet") == read_pairs(alone.directory / "pairs.parquet")
    for found, wanted in zip(metrics(shared.directory), metrics(alone.directory), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "logged"),
    [
        ({"kl_chosen": 0, "kl_rejected": 0}, {"dpo", "dpo_margin", "dpo_accuracy"}),
        ({"dpo": 0, "kl_rejected": 0}, {"kl_chosen"}),
        ({"dpo": 0, "kl_chosen": 0}, {"kl_rejected"}),
    ],
)
def test_one_term_alone(weights: dict, logged: set, context, engine, make_config) -> None:
    ctx = context("run")
    stage.run(make_config(weights=weights, steps=2), ctx)
    common = {"step", "loss", "lr", "grad_norm", "pairs"}
    assert set(metrics(ctx.directory)[0]) == common | logged
    pair = read_pairs(ctx.directory / "pairs.parquet")[0]
    assert (pair.chosen.reference_log_prob is None) == ("dpo" not in logged)


def test_solved_problems_are_logged_apart(context, engine, make_config) -> None:
    ctx = context("run")
    stage.run(make_config(solved_per_step=3, weights={"dpo": 0, "kl_chosen": 0, "kl_rejected": 1}), ctx)
    lines = metrics(ctx.directory)
    assert ctx.counts["solved"] > 0
    assert set(lines[0]) == {"step", "loss", "lr", "grad_norm", "pairs", "kl_rejected", "kl_solved"}
    assert lines[0]["loss"] == pytest.approx(lines[0]["kl_rejected"] + lines[0]["kl_solved"])
    assert lines[-1]["kl_solved"] < lines[0]["kl_solved"]


def test_a_student_that_solves_nothing_is_trained_on_the_pairs_alone(
    context, engine, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe hung on one lucky problem: without a solved one the stage ended, on some processors only."""
    monkeypatch.setattr(stage, "solved_by", lambda *_: [])
    warnings: list[str] = []
    ctx = context("run")
    monkeypatch.setattr(ctx.progress, "warn", warnings.append)
    stage.run(make_config(solved_per_step=3), ctx)
    assert len(warnings) == 1
    assert warnings[0].startswith("stages.dpd.solved_per_step: no problem was answered correctly")
    assert ctx.counts["solved"] == 0
    assert (ctx.directory / "model" / "model.safetensors").is_file()


def test_too_few_pairs_says_why(context, engine, make_config) -> None:
    with pytest.raises(UserError, match=r"batch_size 400: only \d+ pairs are available \(problems 24, kept"):
        stage.run(make_config(batch_size=400), context("run"))


def test_another_tokenizer_is_refused(tmp_path: Path, context, make_config) -> None:
    train_bpe(["abc abc abd " * 50], 268).save(tmp_path / "teacher" / "model")
    with pytest.raises(
        UserError, match=r"stages.dpd.inputs.teacher: its tokenizer differs from the student's \(300 and 268"
    ):
        stage.run(make_config(), context("run"))


def test_problems_of_several_sources(context, make_config) -> None:
    ctx = context("run")
    ctx.sources = {**ctx.sources, "more": PuzzlesSource(type="puzzles", families={"reverse": {}})}
    wanted = [{"source": "puzzles", "n_problems": 24}, {"source": "more", "n_problems": 5}]
    config = make_config(problems=wanted)
    assert config.source_names() == ["puzzles", "more"]
    assert [p.family for p in stage.problems(config, ctx)] == ["sort"] * 12 + ["calc"] * 12 + ["reverse"] * 5


def test_schedule_that_does_not_fit(make_config) -> None:
    with pytest.raises(ValueError, match="warm-up and decay together take more than `steps` steps"):
        make_config(warmup_steps=4)


def test_a_student_that_is_always_cut_off_stops_the_stage(context, make_config, knowing, monkeypatch) -> None:
    """F5: with max_new_tokens too small no sample is right, and none makes a pair."""

    class Endless(knowing):
        def generate(self, requests, sampling):
            return [Completion([7] * 3, [-1.0] * 3, [0] * 3, "length") for _ in requests]

    monkeypatch.setattr(stage, "make_engine", Endless)
    pairs = {"student_samples": 3, "max_new_tokens": 3}
    with pytest.raises(UserError, match=r"dpd\.pairs: student: all 72 samples were cut off by max_new_tokens 3"):
        stage.run(make_config(pairs=pairs), context("run"))
