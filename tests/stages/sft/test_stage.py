"""sft from end to end: what is counted, what is refused, and that kills and ranks change nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.sft.chats import ChatsSource, make_config, make_context
from thinkling.data.artifact import content_files
from thinkling.data.conversations import Conversation, read_conversations, write_conversations
from thinkling.data.encoded import EncodedWriter
from thinkling.data.ledger import FILE as REJECTED
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.puzzles import refinement
from thinkling.puzzles.sources import PuzzleConversationsSource, PuzzlesSource
from thinkling.sources.base import Source, bound
from thinkling.stages.sft import stage
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.origins import origins
from thinkling.stages.training.export import CheckpointFiles
from thinkling.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[3]


def metrics(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def dtypes(directory: Path) -> set[torch.dtype]:
    """Of the weights in a directory; config.json must name the same."""
    found = {weight.dtype for weight in load_file(directory / "model.safetensors").values()}
    assert {f"torch.{json.loads((directory / 'config.json').read_text())['dtype']}"} == set(map(str, found))
    return found


# Configuration


def test_learning_rate_warms_up_holds_and_falls() -> None:
    config = make_config(warmup_steps=2, decay_fraction=0.5, final_lr_fraction=0.1, optimizer={"lr": 1.0})
    values = [config.schedule(10)(step) for step in range(10)]
    assert values[0] < values[1] < 1.0
    assert values[2:5] == [1.0] * 3
    assert values[5:] == sorted(values[5:], reverse=True)
    assert values[-1] == pytest.approx(0.1 + 0.9 * 0.1)


def test_learning_rate_of_a_short_run() -> None:
    assert make_config(warmup_steps=5).schedule(3).total_steps == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": []}, r"inputs\.conversations"),
        ({"examples": [{"source": "a", "weight": 1}, {"source": "b"}]}, r"examples\.1\.weight: missing"),
        (
            {"examples": {"source": "a"}, "conversations_weight": 1},
            "conversations_weight: has no effect without inputs",
        ),
        (
            {"examples": {"source": "a", "weight": 1}, "inputs": {"model": "m", "conversations": "refine"}},
            "conversations_weight: missing",
        ),
        ({"max_repeats": 9}, "max_repeats: has no effect without weights"),
        ({"overlong": "cut"}, "drop.*truncate.*error"),
    ],
)
def test_mistakes_in_the_configuration(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**fields)


def test_examples_are_optional_beside_given_conversations() -> None:
    assert make_config(examples=[], inputs={"model": "m", "conversations": "refine"}).examples == []


# Origins

PUZZLES = PuzzlesSource(type="puzzles", families={"sort": {}, "sum": {}, "calc": {}})
ROLES = PuzzleConversationsSource(
    type="puzzle_conversations", puzzles="p", roles={"checklist": 1, "evaluate": 1, "revise": 1, "chain": 1}
)


def conversations_of(config: SftConfig) -> list[Conversation]:
    sources: dict[str, Source] = bound({"p": PUZZLES, "r": ROLES})
    return [c for origin in origins(config, sources, None, 1) for c in origin.conversations()]


def test_examples_are_one_mapping_or_a_list() -> None:
    one = conversations_of(make_config(examples={"source": "p", "n_examples": 3}))
    both = [{"source": "p", "n_examples": 3}, {"source": "p", "n_examples": 2, "families": ["calc"]}]
    listed = conversations_of(make_config(examples=both))
    assert listed[:3] == one
    assert [c.source for c in listed[3:]] == ["p/calc"] * 2
    assert make_config(examples=both).source_names() == ["p"]
    found = origins(make_config(examples=both), bound({"p": PUZZLES}), None, 1)
    assert [(origin.name, origin.n) for origin in found] == [("p", 3), ("p (2)", 2)]


def test_roles_teach_one_role_a_problem() -> None:
    made = conversations_of(make_config(examples={"source": "r", "n_examples": 60, "families": ["sort", "sum"]}))
    words = [c.messages[0]["content"].partition(" ")[0] for c in made]
    assert len(words) == 60
    assert set(words) == {"list", "check", "mend", "chain"}
    lists = [c for c in made if c.messages[0]["content"].startswith("list")]
    assert all(refinement.read_checklist(c.messages[1]["content"]) for c in lists)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"families": ["mod"]}, "sources.p: unknown family 'mod'"),
        ({"source": "r"}, "family 'calc' has no roles"),
    ],
)
def test_families_that_are_not_there(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        conversations_of(make_config(examples={"source": "p", "n_examples": 3} | fields))


# Runs


def test_conversations_beside_examples_and_instead_of_them(tmp_path: Path, model: Path) -> None:
    given = tmp_path / "refine"
    given.mkdir()
    turns = [{"role": "user", "content": "say 1"}, {"role": "assistant", "content": "6", "reasoning_content": "6"}]
    refined = [Conversation(f"job{i}", turns, "p/sum", f"problem{i}") for i in range(3)]
    write_conversations(given / "conversations.parquet", refined)
    for name, examples, n in (("beside", {"source": "a", "n_examples": 6}, 6), ("instead", [], 0)):
        ctx = make_context(tmp_path / name, model, {"a": ChatsSource()}, conversations=given)
        wanted = make_config(
            examples=examples, inputs={"model": "m", "conversations": "refine"}, epochs=2, max_steps=1, batch_size=1
        )
        stage.run(wanted, ctx)
        counts = ctx.counts
        assert (counts["from_examples"], counts["from_conversations"]) == (n, 3)
        assert counts["conversations"] == n + 3 == counts["kept"]
        assert counts["steps"] == 1
        assert counts["rows_left_over"] > 0
        assert list(read_conversations(ctx.directory / "conversations.parquet"))[n:] == refined
        assert list(counts["by_source"]) == (["a", "refine"] if n else ["refine"])


def test_numbers_in_are_numbers_out(tmp_path: Path, model: Path) -> None:
    """Each conversation is kept or left out for a reason, in all and by source, and can be looked up."""
    sources = {"a": ChatsSource(rounds=2, words=(1, 9, 1, 30), silent_every=5, reject_every=7), "b": ChatsSource()}
    ctx = make_context(tmp_path / "run", model, sources)
    stage.run(make_config(examples=[{"source": "a", "n_examples": 40}, {"source": "b"}], overlong="truncate"), ctx)
    counts = ctx.counts
    made, given = counts["by_source"]["a"], counts["by_source"]["b"]
    assert made["conversations"] == 34 == made["kept"] + made["overlong_dropped"] + made["without_loss"]
    assert min(made[name] for name in ("kept", "overlong_truncated", "overlong_dropped", "without_loss")) > 0
    assert (given["conversations"], given["kept"]) == (10, 10)
    for name in ("conversations", "kept", "overlong_dropped", "without_loss", "tokens", "loss_tokens"):
        assert counts[name] == made.get(name, 0) + given.get(name, 0)
    assert ctx.ledger.counts()["a"] == {"in": 40, "kept": 34, "rejected": {"not JSON": 6}}
    rejected = [json.loads(line) for line in (ctx.directory / REJECTED).read_text().splitlines()]
    reasons = [line["reason"] for line in rejected]
    assert reasons.count("not JSON") == 6
    assert reasons.count("no token carries loss") == made["without_loss"]
    assert reasons.count("longer than sequence_length") == made["overlong_dropped"]
    assert len(list(read_conversations(ctx.directory / "conversations.parquet"))) == counts["conversations"]
    spans = [json.loads(line) for line in (ctx.directory / "spans.jsonl").read_text().splitlines()]
    assert {line["source"] for line in spans} == {"a", "b"}
    assert not (ctx.directory / "encoded").exists()


def test_sources_are_mixed_by_weight(tmp_path: Path, model: Path) -> None:
    sources = {"a": ChatsSource(words=(10,)), "b": ChatsSource(words=(5,))}
    examples = [{"source": "a", "n_examples": 30, "weight": 1}, {"source": "b", "n_examples": 60, "weight": 3}]
    ctx = make_context(tmp_path / "run", model, sources)
    stage.run(make_config(examples=examples, epochs=1), ctx)
    a, b = ctx.counts["by_source"]["a"], ctx.counts["by_source"]["b"]
    assert a["rows"] + b["rows"] == ctx.counts["rows"]
    assert a["rows"] == pytest.approx(ctx.counts["rows"] / 4, abs=1)
    assert a["epochs"] < 1 < b["epochs"]
    assert a["padding"] == a["rows"] * 64 - a["tokens"]
    assert sum(line["loss_tokens"] for line in metrics(ctx.directory)) == ctx.counts["loss_tokens"]
    assert ctx.counts["loss_tokens"] == a["loss_tokens"] + b["loss_tokens"]


def test_a_sample_per_round(tmp_path: Path, model: Path) -> None:
    ctx = make_context(tmp_path / "run", model, {"a": ChatsSource(rounds=3)})
    stage.run(make_config(examples={"source": "a", "one_sample_per_round": True}), ctx)
    assert ctx.counts["conversations"] == 30
    trained_on = list(read_conversations(ctx.directory / "conversations.parquet"))
    assert [len(c.messages) for c in trained_on[:3]] == [2, 4, 6]


class Empty(ChatsSource):
    """No conversation at all."""

    def conversations(self, n, seed, families=None) -> Iterator[Conversation]:
        return iter(())


@pytest.mark.parametrize(
    ("source", "fields", "message"),
    [
        (Empty(), {}, "^examples: a: no conversations were found; check families"),
        (
            ChatsSource(),
            {"sequence_length": 16},
            r"sequence_length 16: all conversations are longer; raise it to at least \d",
        ),
        (ChatsSource(silent_every=1), {}, "^examples: a: no conversation has an assistant turn with loss"),
        (ChatsSource(), {"batch_size": 99}, r"batch_size 99: only \d+ rows are available; lower batch_size"),
        (ChatsSource(), {"overlong": "error", "sequence_length": 16}, "conversation 'a0' of chats has"),
        (
            ChatsSource(),
            {
                "examples": [
                    {"source": "a", "n_examples": 4, "weight": 9},
                    {"source": "b", "n_examples": 99, "weight": 1},
                ]
            },
            r"^examples: a: its weight repeats the source \d+\.\d times in \d+ steps, but max_repeats allows 4; lower",
        ),
        (
            Empty(),
            {"examples": [{"source": "a", "weight": 9}, {"source": "b", "weight": 1}]},
            r"^examples: a: no conversation is left to train on \(conversations 0, kept 0\); remove the entry",
        ),
    ],
)
def test_what_cannot_be_trained_on(
    tmp_path: Path, model: Path, source: ChatsSource, fields: dict[str, Any], message: str
) -> None:
    ctx = make_context(tmp_path / "run", model, {"a": source, "b": ChatsSource()})
    with pytest.raises(UserError, match=message) as raised:
        stage.run(make_config(**fields), ctx)
    assert "\n" not in str(raised.value)


def test_max_repeats_allows_more(tmp_path: Path, model: Path) -> None:
    examples = [{"source": "a", "n_examples": 4, "weight": 9}, {"source": "b", "n_examples": 40, "weight": 1}]
    ctx = make_context(tmp_path / "run", model, {"a": ChatsSource(), "b": ChatsSource()})
    stage.run(make_config(examples=examples, max_repeats=50), ctx)
    assert ctx.counts["by_source"]["a"]["epochs"] > 4


def test_epochs_that_are_asked_for_are_no_repeats(tmp_path: Path, model: Path) -> None:
    examples = [{"source": "a", "weight": 1}, {"source": "b", "weight": 1}]
    ctx = make_context(tmp_path / "run", model, {"a": ChatsSource(), "b": ChatsSource()})
    stage.run(make_config(examples=examples, epochs=6), ctx)
    assert ctx.counts["by_source"]["a"]["epochs"] == pytest.approx(6, abs=0.5)


# Precision


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_a_bf16_directory_trains_in_any_precision(tmp_path: Path, model: Path, compute: str, weights: str) -> None:
    """The dtype of the directory decides nothing, that of the recipe what is exported; losses are near those of fp32,
    in training and in validation."""
    start = load_pretrained(model)
    start.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(start.bfloat16(), tmp_path / "bf16" / "model", model.with_name("tokenizer"), {})

    def losses(name: str, **precision: str) -> list[float]:
        ctx = make_context(tmp_path / name, tmp_path / "bf16" / "model", {"a": ChatsSource(words=(1, 5, 9))})
        examples = {"source": "a", "n_examples": 40}
        validated = {"evaluate_every": 2, "validation_fraction": 0.2, "keep_best": True}
        stage.run(make_config(examples=examples, precision=precision, **validated), ctx)
        assert dtypes(ctx.directory / "model") == {getattr(torch, precision.get("weights", "float32"))}
        evaluations = (ctx.directory / "evaluations.jsonl").read_text().splitlines()
        return [line["loss"] for line in [*metrics(ctx.directory), *map(json.loads, evaluations)]]

    assert losses("found", compute=compute, weights=weights) == pytest.approx(losses("exact"), rel=0.01)


def test_the_models_own_sampling_settings_were_replaced(tmp_path: Path, model: Path) -> None:
    """By ours, in the model of the stage and in what a checkpoint is exported from."""
    own = {"temperature": 0.7, "top_k": 20, "do_sample": True}
    shutil.copytree(model, tmp_path / "start")
    (tmp_path / "start" / "generation_config.json").write_text(json.dumps({**own, "transformers_version": "4.51.0"}))
    ours = {"temperature": 0.6, "top_p": 0.95, "do_sample": True}
    for start, expected in ((tmp_path / "start", own), (model, ours)):
        ctx = make_context(tmp_path / f"from-{start.name}", start, {"a": ChatsSource()})
        stage.run(make_config(examples={"source": "a", "n_examples": 20}), ctx)
        CheckpointFiles(ctx.directory / "files", load_pretrained(start), start, Renderer.load(start)).on_start(0)
        for directory in (ctx.directory / "model", ctx.directory / "files" / "tokenizer"):
            found = json.loads((directory / "generation_config.json").read_text())
            assert {name: value for name, value in found.items() if not name.endswith("_token_id")} == expected


# Kills and ranks


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kill_and_resume_equals_a_run_left_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Killed while encoding, which starts again, and while training, which does not encode again."""
    sources = {"a": ChatsSource(rounds=2, words=(1, 9, 1, 30), silent_every=5, reject_every=7), "b": ChatsSource()}
    config = make_config(
        examples=[{"source": "a", "n_examples": 40}, {"source": "b"}], overlong="truncate",
        epochs=2, checkpoint_every=3,
        precision={"compute": dtype, "weights": dtype},
    )  # fmt: skip
    whole, cut = make_context(tmp_path / "whole", model, sources), tmp_path / "cut"
    stage.run(config, whole)
    state = {"calls": 0, "limit": 0}

    def dying(function):
        def call(*given: Any, **named: Any) -> Any:
            state["calls"] += 1
            if state["calls"] > state["limit"]:
                raise KeyboardInterrupt
            return function(*given, **named)

        return call

    def killed_in(owner: type, name: str, limit: int) -> None:
        state.update(calls=0, limit=limit)
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, dying(function))
        with pytest.raises(KeyboardInterrupt):
            stage.run(config, fresh())
        monkeypatch.setattr(owner, name, function)

    def fresh() -> Any:
        return make_context(cut, model, sources)

    killed_in(EncodedWriter, "add", 17)
    assert not (cut / "encoded").exists()
    killed_in(Trainer, "step", 5)
    assert (cut / "encoded").is_dir()
    assert list((cut / "checkpoints").iterdir())
    again = fresh()
    state.update(calls=0, limit=0)
    monkeypatch.setattr(EncodedWriter, "add", dying(EncodedWriter.add))
    stage.run(config, again)
    assert again.counts == whole.counts
    assert again.ledger.counts() == whole.ledger.counts()
    names = [name for name in content_files(whole.directory) if not name.endswith(".log.jsonl")]
    assert [n for n in content_files(cut) if not n.endswith(".log.jsonl")] == names
    for name in names:
        assert (cut / name).read_bytes() == (whole.directory / name).read_bytes(), name


@pytest.mark.parametrize(
    ("weights", "dtype"), [((None, None), "float32"), ((1.0, 2.0), "float32"), ((None, None), "bfloat16")]
)
def test_two_ranks_equal_one(
    tmp_path: Path, model: Path, weights: tuple[float | None, float | None], dtype: str
) -> None:
    """FSDP2 on gloo: rank 0 encodes, both read."""
    fields = {"a": {"rounds": 2, "words": [1, 7, 3]}, "b": {}}
    examples = [{"source": name, "weight": weight} for name, weight in zip(fields, weights, strict=True)]
    config = make_config(examples=examples, batch_size=4, epochs=2, micro_batch_size=1,
        precision={"compute": dtype, "weights": dtype},
    )  # fmt: skip
    alone = make_context(tmp_path / "alone", model, {name: ChatsSource(**f) for name, f in fields.items()})
    stage.run(config, alone)
    shared, out = tmp_path / "shared", tmp_path / "counts.json"
    shared.mkdir()
    job = {"config": config.model_dump(), "directory": str(shared), "sources": fields, "model": str(model)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # On CPUs, also where there is a GPU: two ranks on one card would wait for each other.
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.stages.sft.chats", json.dumps(job | {"out": str(out)})]
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
    assert (shared / "spans.jsonl").read_bytes() == (alone.directory / "spans.jsonl").read_bytes()
    assert not (shared / "encoded").exists()
    for found, wanted in zip(metrics(shared), metrics(alone.directory), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4 if dtype == "float32" else 0.05)
    assert dtypes(shared / "model") == dtypes(alone.directory / "model") == {getattr(torch, dtype)}
