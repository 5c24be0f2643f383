"""sft with evaluation during training, on a real tiny model: scores, validation loss, what is left out, resumption."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from tests.stages.own import OwnSource
from tests.stages.sft.chats import ChatsSource
from thinkling.data.artifact import Artifact, content_files
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import read_conversations
from thinkling.data.ledger import FILE as LEDGER
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.generate.engine import Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.rollouts import read_rollouts
from thinkling.generate.score import Sampler, sample_and_score
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.pipeline.recipe import read_source
from thinkling.seeds import derive
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft import stage
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training import evaluation
from thinkling.stages.training.left_out import LeftOut
from thinkling.train.parallel import Parallel

N = 60
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("start")
    tokenizer = train_bpe(["user assistant think the answer " * 20], 268, chat_template=OURS.source)
    tokenizer.save(directory / "tokenizer")
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    made = Decoder(shape)
    made.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(made, directory / "model", directory / "tokenizer", {})
    return directory / "model"


def config(**fields: Any) -> SftConfig:
    sets = {"own": {"source": "own", "n_problems": 8}}
    return SftConfig.model_validate(
        {
            "kind": "sft", "examples": {"source": "own"}, "epochs": 4, "sequence_length": 64, "batch_size": 4,
            "optimizer": {"lr": 1e-2}, "checkpoint_every": 4, "evaluate_every": 3, "validation_fraction": 0.2,
            "evaluation": {"task_sets": sets, "max_new_tokens": 8, "k": 2, "temperature": 1.0}, "keep_best": True,
        }
        | fields
    )  # fmt: skip


def context(directory: Path, start: Path) -> StageContext:
    directory.mkdir(exist_ok=True)
    sources = bound({"own": OwnSource(type="own", n=N)})
    return StageContext("sft", directory, {"model": Artifact(start, {})}, 3, sources=sources)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "evaluations.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> StageContext:
    ctx = context(tmp_path_factory.mktemp("whole") / "r", start)
    stage.run(config(), ctx)
    return ctx


def test_what_is_evaluated_is_not_trained_on_and_counts_add_up(trained: StageContext) -> None:
    counts, directory = trained.counts, trained.directory
    kept = list(read_conversations(directory / "conversations.parquet"))
    validation = list(read_conversations(directory / "validation.parquet"))
    evaluated = {r.problem_id for path in directory.glob("evaluations/*/own/*.parquet") for r in read_rollouts(path)}
    assert len(evaluated) == counts["evaluated"] == 8
    assert len(validation) == counts["validation"] > 3
    assert counts["conversations"] + counts["validation"] + 8 == N
    assert counts["conversations"] == counts["kept"] + counts["overlong_dropped"] + counts["without_loss"]
    groups = [{c.id for c in kept}, {c.id for c in validation}, evaluated]
    assert len(set().union(*groups)) == N == sum(map(len, groups))


def test_every_evaluation_has_a_score_and_a_loss(trained: StageContext) -> None:
    found, steps = lines(trained.directory), trained.counts["steps"]
    wanted = [*range(0, steps, 3), *([steps] if steps % 3 else [])]
    assert [(line["step"], line["task_set"]) for line in found] == [(s, t) for s in wanted for t in ("own", None)]
    losses = [line["loss"] for line in found if line["task_set"] is None]
    assert losses[-1] < 0.6 * losses[0]
    assert all(line["low"] <= line["mean"] <= line["high"] for line in found if line["task_set"])


def test_the_loss_is_what_transformers_computes(trained: StageContext, start: Path) -> None:
    """Of the exported model, on the conversations that were left out, one at a time without packing."""
    step = trained.counts["evaluation"]["exported_step"]
    (ours,) = (line["loss"] for line in lines(trained.directory) if line["step"] == step and line["task_set"] is None)
    peer = AutoModelForCausalLM.from_pretrained(trained.directory / "model")
    renderer = LoadedModel.load(start).renderer
    total, n = 0.0, 0
    for conversation in read_conversations(trained.directory / "validation.parquet"):
        ids, mask = renderer.encode(conversation.messages)
        tokens = torch.from_numpy(ids).long()
        with torch.no_grad():
            logits = peer(input_ids=tokens[None]).logits[0, :-1]
        each = F.cross_entropy(logits, tokens[1:], reduction="none")[torch.from_numpy(mask[1:])]
        total, n = total + float(each.sum()), n + len(each)
    assert ours == pytest.approx(total / n, rel=1e-5)


def test_the_score_is_that_of_the_exported_model(trained: StageContext) -> None:
    """Asked again after training, with the same random numbers, it writes the very same tokens."""
    step = trained.counts["evaluation"]["exported_step"]
    loaded = LoadedModel.load(trained.directory / "model")
    left_out = LeftOut.of(config(), trained, Parallel())
    sampler = Sampler(make_engine(loaded), loaded.renderer, Sampling(1.0, 0.95), 8)
    again = sample_and_score(sampler, left_out.problems["own"], 2, derive(trained.seed, "evaluation", "own"))
    found = [r for path in trained.directory.glob(f"evaluations/{step:08d}/own/*.parquet") for r in read_rollouts(path)]
    assert [r.tokens for r in again] == [r.tokens for r in found]


def test_sampling_disturbs_neither_training_nor_its_random_state(
    trained: StageContext, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    score = evaluation._score

    def watching(*arguments: Any) -> dict[str, Any]:
        seen.append(True)
        return score(*arguments)

    monkeypatch.setattr(evaluation, "_score", watching)
    state = torch.get_rng_state()
    fields = {"validation_fraction": 0.2, "evaluate_every": 1000, "evaluate_at_start": False}
    ctx = context(tmp_path / "rarely", start)
    stage.run(config(**fields), ctx)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(seen) == 1
    assert (ctx.directory / "metrics.jsonl").read_bytes() == (trained.directory / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_killed_while_it_evaluates_and_resumed_equals_uninterrupted(
    trained: StageContext, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    done = [0]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            done[0] += 1
            found = function(*arguments, **options)
            if done[0] == calls:
                raise KeyboardInterrupt
            return found

        return called

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "sample_and_score", dying(evaluation.sample_and_score))
        with pytest.raises(KeyboardInterrupt):
            stage.run(config(), context(tmp_path / "cut", start))
    ctx = context(tmp_path / "cut", start)
    stage.run(config(), ctx)
    assert ctx.counts == trained.counts
    names = list(content_files(trained.directory))
    assert list(content_files(ctx.directory)) == names
    assert all((ctx.directory / n).read_bytes() == (trained.directory / n).read_bytes() for n in names)


def test_validation_alone_keeps_the_step_of_least_loss(start: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path / "r", start)
    stage.run(config(evaluation=None, epochs=1, optimizer={"lr": 0.5}, decay_fraction=0), ctx)
    losses = {line["step"]: line["loss"] for line in lines(ctx.directory)}
    found = ctx.counts["evaluation"]
    assert found["measure"] == "loss"
    assert found["best_step"] == min(losses, key=lambda step: losses[step]) != found["last_step"]
    assert (found["best_score"], found["last_score"]) == (min(losses.values()), losses[found["last_step"]])
    assert not (ctx.directory / "evaluations").exists()


def test_a_fraction_that_leaves_nothing_to_validate_on(start: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation_fraction 1e-06: none of the 0 conversations drawn"):
        stage.run(config(validation_fraction=1e-6), context(tmp_path / "r", start))


def test_two_ranks_measure_the_loss_and_keep_the_same_step(start: Path, tmp_path: Path) -> None:
    """FSDP2 on gloo: the weights of the best step are gathered from both ranks."""
    settings = config(
        evaluation=None, epochs=3, max_steps=7, optimizer={"lr": 0.03}, decay_fraction=0, evaluate_every=1
    )
    stage.run(settings, alone := context(tmp_path / "alone", start))
    shared = context(tmp_path / "shared", start)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {"config": settings.model_dump(), "directory": str(shared.directory), "model": str(start), "n": N}
    command = [sys.executable, "-m", "tests.stages.sft.ranks", json.dumps(job | {"out": str(tmp_path / "counts.json")})]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    # On CPUs, also where there is a GPU: two ranks on one card would wait for each other.
    common["CUDA_VISIBLE_DEVICES"] = ""
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
    found = json.loads((tmp_path / "counts.json").read_text())["evaluation"]
    for name, wanted in alone.counts["evaluation"].items():
        assert found[name] == (pytest.approx(wanted, rel=1e-3) if isinstance(wanted, float) else wanted)
    assert found["exported_step"] == 6 < found["last_step"]
    one, other = (load_pretrained(ctx.directory / "model").state_dict() for ctx in (alone, shared))
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)
    assert not (shared.directory / "best").exists()


def test_conversations_for_validation_are_fitted_as_those_trained_on_are(start: Path, tmp_path: Path) -> None:
    """What is too long is not measured, is counted apart and written down, and `n` is what is measured."""
    fields = {"examples": {"source": "chats", "n_examples": 80}, "evaluation": None, "validation_fraction": 0.4}

    def trained(name: str, **more: Any) -> StageContext:
        (tmp_path / name).mkdir()
        sources = bound({"chats": ChatsSource(words=(1, 100, 2), rounds=2)})
        ctx = StageContext("sft", tmp_path / name, {"model": Artifact(start, {})}, 3, sources=sources)
        stage.run(config(**fields, epochs=1, sequence_length=90, **more), ctx)
        return ctx

    ctx = trained("drop")
    measured = list(read_conversations(ctx.directory / "validation.parquet"))
    rejected = [json.loads(line) for line in (ctx.directory / LEDGER).read_text().splitlines()]
    apart = [line for line in rejected if line["where"] == "drawn for validation"]
    assert {line["reason"] for line in apart} == {"longer than sequence_length"}
    assert ctx.counts["validation_unmeasured"] == len(apart) > 3
    assert ctx.counts["validation"] == len(measured) == lines(ctx.directory)[0]["n"] > 3
    assert ctx.counts["conversations"] + len(measured) + len(apart) == 80
    assert not (ctx.directory / "encoded_validation").exists()
    with pytest.raises(
        UserError, match=r"conversation 'chats\d+' of chats has .* tokens, more than sequence_length 90"
    ):
        trained("error", overlong="error")


def test_a_resumed_run_counts_the_records_of_an_evaluated_source_once(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source that is evaluated is asked before the killed run's counts are known."""
    rows = [{"question": f"{n}+1=", "answer": str(n + 1), "why": "so" if n % 5 else ""} for n in range(40)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    fields = {"type": "problems", "path": str(path), "fields": {"solution": "why"}, "heldout_fraction": 0.1}

    def counts(directory: Path) -> tuple[Any, str]:
        directory.mkdir(exist_ok=True)
        sources = bound({"own": read_source("own", fields)})
        ctx = StageContext("sft", directory, {"model": Artifact(start, {})}, 3, sources=sources)
        stage.run(config(epochs=1, max_steps=2, sequence_length=100, batch_size=2), ctx)
        return ctx.ledger.counts(), (directory / LEDGER).read_text()

    whole = counts(tmp_path / "whole")
    assert whole[0]["own"]["rejected"] == {"duplicate": 1, "no solution": len(whole[1].splitlines()) - 1}
    with monkeypatch.context() as patched:
        patched.setattr(stage, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counts(tmp_path / "killed")
    assert counts(tmp_path / "killed") == whole


def interrupted(*given: Any) -> None:
    raise KeyboardInterrupt
