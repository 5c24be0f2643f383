"""sft with adapters: what is trained, what is exported, kills and ranks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.sft.chats import ChatsSource, make_config, make_context
from thinkling.data.artifact import content_files
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.stages.base import StageContext
from thinkling.stages.sft import stage
from thinkling.stages.training import evaluation
from thinkling.stages.training.export import export_checkpoint
from thinkling.train.checkpoint import read_weights
from thinkling.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[3]
LORA: dict[str, Any] = {"rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]}
FIELDS: dict[str, Any] = {"lora": LORA, "epochs": 2, "optimizer": {"lr": 0.02}}


def run(directory: Path, model: Path, **fields: Any) -> StageContext:
    ctx = make_context(directory, model, {"a": ChatsSource(words=(1, 9, 3))})
    stage.run(make_config(**({"examples": {"source": "a", "n_examples": 40}} | FIELDS | fields)), ctx)
    return ctx


def losses(directory: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def merged(start: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The weights of `start` with the adapters of peft's files, computed from the files alone."""
    weights, adapters = load_file(start / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for name, a in adapters.items():
        if name.endswith("lora_A.weight"):
            layer = name.removesuffix("lora_A.weight")
            target = layer.removeprefix("base_model.model.") + "weight"
            b = adapters[f"{layer}lora_B.weight"]
            delta = config["lora_alpha"] / config["r"] * (b @ a)
            assert float(delta.norm()) > 0
            weights[target] = (weights[target].float() + delta).to(weights[target].dtype)
    return weights


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_the_base_is_frozen_and_the_exported_model_is_merged(
    tmp_path: Path, model: Path, weights: str, compute: str
) -> None:
    """Adapters are in fp32 in every precision, so `adapter/` is exact where the merged weights are rounded."""
    start = load_pretrained(model)
    start.init_weights(torch.Generator().manual_seed(0))
    save_pretrained(start.to(getattr(torch, weights)), tmp_path / "start" / "model", model.with_name("tokenizer"), {})
    base = tmp_path / "start" / "model"
    ctx = run(tmp_path / "run", base, precision={"weights": weights, "compute": compute})
    found = losses(ctx.directory)
    assert found[-1] < 0.95 * found[0]
    adapters = load_file(ctx.directory / "adapter" / "adapter_model.safetensors")
    assert {x.dtype for x in adapters.values()} == {torch.float32}
    assert {name.split(".")[-3] for name in adapters} == {"q_proj", "down_proj"}
    before, after = load_file(base / "model.safetensors"), load_file(ctx.directory / "model" / "model.safetensors")
    assert {x.dtype for x in after.values()} == {getattr(torch, weights)}
    assert before.keys() == after.keys()
    for name, wanted in merged(base, ctx.directory / "adapter").items():
        assert torch.equal(after[name], before[name]) == ("q_proj" not in name and "down_proj" not in name)
        assert torch.allclose(after[name], wanted, atol=1e-7, rtol=1e-6 if weights == "float32" else 0.01)


def test_kill_and_resume_equals_a_run_left_alone(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints contain adapters alone, and a checkpoint of a killed run can be exported."""
    fields: dict[str, Any] = {"evaluate_every": 2, "validation_fraction": 0.2, "keep_best": True}
    whole = run(tmp_path / "whole", model, **fields)
    step, calls = Trainer.step, 0

    def dying(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(Trainer, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", model, **fields)
    monkeypatch.undo()
    checkpoint = max((tmp_path / "cut" / "checkpoints").glob("step-*"))
    stored = read_weights(checkpoint)
    assert stored
    assert all("lora_" in name for name in stored)
    export_checkpoint(checkpoint, tmp_path / "exported")
    exported, base = load_pretrained(tmp_path / "exported").state_dict(), load_pretrained(model).state_dict()
    a, b = (stored[f"model.layers.0.mlp.down_proj.lora_{x}.weight"] for x in "AB")
    for name, weight in base.items():
        assert torch.equal(exported[name], weight) == ("q_proj" not in name and "down_proj" not in name)
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.allclose(exported[name], base[name] + 2 * b @ a, atol=1e-7)
    cut = run(tmp_path / "cut", model, **fields)
    assert cut.counts == whole.counts
    names = [name for name in content_files(whole.directory) if not name.endswith(".log.jsonl")]
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= set(names)
    assert not any("adapter" in name for name in names if name.startswith("model"))
    for name in names:
        assert (cut.directory / name).read_bytes() == (whole.directory / name).read_bytes(), name


def test_recomputing_layers_changes_nothing(tmp_path: Path, model: Path) -> None:
    kept, recomputed = (run(tmp_path / mode, model, recompute=mode, max_steps=3) for mode in ("none", "full"))
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (kept.directory / name).read_bytes() == (recomputed.directory / name).read_bytes()


def test_keep_best_exports_the_adapters_of_the_best_step(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([3.0, 2.0, 1.0, *[2.0] * 50])
    monkeypatch.setattr(evaluation, "mean_loss", lambda *given: next(measured))
    fields: dict[str, Any] = {"evaluate_every": 1, "validation_fraction": 0.3, "keep_best": True}
    ctx = run(tmp_path / "run", model, **fields)
    assert ctx.counts["evaluation"]["exported_step"] == 2 < ctx.counts["evaluation"]["last_step"]
    after = load_file(ctx.directory / "model" / "model.safetensors")
    for name, wanted in merged(model, ctx.directory / "adapter").items():
        assert torch.allclose(after[name], wanted, atol=1e-7)
    assert not (ctx.directory / "model" / "adapter").exists()


def test_peft_loads_the_adapters_of_a_stage(tmp_path: Path, model: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    ctx = run(tmp_path / "run", model)
    tokens = torch.randint(0, 268, (2, 20), generator=torch.Generator().manual_seed(0))
    base = AutoModelForCausalLM.from_pretrained(model)
    adapted = peft.PeftModel.from_pretrained(base, str(ctx.directory / "adapter")).eval()
    merged = load_pretrained(ctx.directory / "model")
    with torch.no_grad():
        found, ours = adapted(input_ids=tokens).logits, merged.logits(merged(tokens))
        with adapted.disable_adapter():  # pyright: ignore
            without = adapted(input_ids=tokens).logits
    assert (found - ours).norm() <= 1e-5 * ours.norm() < 1e-3 * (without - ours).norm()


def test_a_stage_without_lora_writes_no_adapters(tmp_path: Path, model: Path) -> None:
    assert not (run(tmp_path / "run", model, lora=None).directory / "adapter").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": {"name": "muon"}}, "lora: muon makes .* set optimizer.name to adamw"),
        ({"keep_state": True}, "keep_state: not supported with lora, .*; remove keep_state or lora"),
        ({"inputs": {"model": "m", "state": "m"}}, "inputs.state: not supported with lora"),
        ({"lora": {"targets": ["embed_tokens"]}}, "lora.targets.0"),
    ],
)
def test_settings_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**(FIELDS | fields))


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "compute"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_two_ranks_equal_one(tmp_path: Path, model: Path, weights: str, compute: str) -> None:
    """FSDP2 shards frozen weights and adapters of another dtype together."""
    fields = {"words": [1, 9, 3]}
    config = make_config(
        **FIELDS | {"examples": {"source": "a", "n_examples": 40}, "batch_size": 4, "micro_batch_size": 1},
        precision={"weights": weights, "compute": compute},
    )
    alone = make_context(tmp_path / "alone", model, {"a": ChatsSource(words=(1, 9, 3))})
    stage.run(config, alone)
    shared = tmp_path / "shared"
    shared.mkdir()
    job = {"config": config.model_dump(), "directory": str(shared), "sources": {"a": fields}, "model": str(model)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "tests.stages.sft.chats", json.dumps(job | {"out": str(tmp_path / "counts.json")})]
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
    tolerance = 1e-4 if weights == "float32" else 0.05
    assert losses(shared) == pytest.approx(losses(alone.directory), rel=tolerance)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        found, wanted = load_file(shared / name), load_file(alone.directory / name)
        assert found.keys() == wanted.keys()
        for key, weight in wanted.items():
            assert found[key].dtype == weight.dtype
            assert (found[key].float() - weight.float()).norm() <= 10 * tolerance * weight.float().norm() + 1e-3
