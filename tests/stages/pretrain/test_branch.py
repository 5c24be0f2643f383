"""F10: a decay branches off a plateau whose training state was kept, as if both had been one stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from thinkling.data.artifact import Artifact, finish
from thinkling.data.shards import ShardWriter
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.pipeline.plan import plan_pretraining
from thinkling.pipeline.recipe import load_recipe
from thinkling.stages.base import StageContext
from thinkling.stages.pretrain import stage
from thinkling.stages.pretrain.config import PretrainConfig

MODEL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
WARM = {"name": "warm-up", "tokens": 256, "learning_rate": [0.0, 0.01], "mixture": {"a": 2, "b": 1}}
FLAT = {"name": "plateau", "tokens": 768, "learning_rate": 0.01, "mixture": {"a": 2, "b": 1}}
DOWN = {
    "name": "decay", "tokens": 512, "learning_rate": [0.01, 0.0], "mixture": {"b": 1}, "sequence_length": 64,
    "rope_theta": 5e4, "decay": True,
}  # fmt: skip


def config(phases: list[dict[str, Any]], inputs: dict[str, str] | None = None, **more: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "kind": "pretrain",
            "inputs": {"tokens": "tokens"} | (inputs or {}),
            "sequence_length": 32,
            "batch_tokens": 128,
            "optimizer": {"name": "adamw", "lr": 0.01},
            "phases": phases,
            "checkpoint_every": 3,
            "default_max_epochs": 100,
        }
        | more
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two sources of random documents."""
    return make_tokens(tmp_path_factory.mktemp("t"), seed=0)


def make_tokens(folder: Path, seed: int) -> Artifact:
    partial = folder / "tokens.partial"
    train_bpe(["abc abc abd " * 50], 268).save(partial / "tokenizer")
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        with ShardWriter(partial / "shards", name, 268) as writer:
            for _ in range(40):
                writer.add(rng.integers(0, 268, rng.integers(3, 50)))
    return finish(partial, folder / "tokens", {"kind": "tokens"}, {})


def train(directory: Path, settings: PretrainConfig, seed: int, **inputs: Artifact) -> Artifact:
    from thinkling.model.config import ModelConfig

    directory.mkdir(parents=True)
    ctx = StageContext(name="p", directory=directory, inputs=inputs, seed=seed, model=ModelConfig.model_validate(MODEL))
    stage.run(settings, ctx)
    return finish(directory, directory.with_name(directory.name + "-done"), {"counts": ctx.counts}, {})


@pytest.mark.parametrize(
    ("dtype", "packing"), [("float32", "sequential"), ("bfloat16", "sequential"), ("float32", "best_fit")]
)
def test_a_branch_equals_one_stage_bit_for_bit(tmp_path: Path, tokens: Artifact, dtype: str, packing: str) -> None:
    """Weights, state and log; the branch's own seed and its checkpoints change nothing, nor does its being killed."""
    kept: dict[str, Any] = {"keep_state": True, "precision": {"compute": dtype, "weights": dtype}, "packing": packing}
    whole = train(tmp_path / "whole", config([WARM, FLAT, DOWN], **kept), 7, tokens=tokens)
    plateau = train(tmp_path / "plateau", config([WARM, FLAT], **kept), 7, tokens=tokens)
    branch = config([DOWN], {"state": "plateau"}, checkpoint_every=2, **kept)
    decay = train(tmp_path / "decay", branch, 8, tokens=tokens, state=plateau)
    for name in ("model/model.safetensors", "model/config.json", "state/state.json"):
        assert decay.file(name).read_bytes() == whole.file(name).read_bytes(), name
    [one], [other] = ((a.path / "state").glob("*.safetensors") for a in (decay, whole))
    assert one.read_bytes() == other.read_bytes()
    logs = [a.file("metrics.jsonl").read_text().splitlines() for a in (plateau, decay, whole)]
    assert logs[0] + logs[1] == logs[2]
    assert [json.loads(line)["step"] for line in logs[1]] == [8, 9, 10, 11]
    assert (decay.counts["steps"], decay.counts["phase_ends"]) == (4, [12])
    for used in whole.counts["sources"].values():
        assert used["waste"] == pytest.approx(used["padding"] / (used["padding"] + used["tokens"]), abs=1e-6)
        assert used["waste"] < (0.3 if packing == "sequential" else 0.1)


def test_a_bf16_directory_is_trained_in_fp32(tmp_path: Path, tokens: Artifact) -> None:
    """Its weights stayed bf16."""
    whole = train(tmp_path / "whole", config([WARM], precision={"weights": "bfloat16"}), 7, tokens=tokens)
    weights = load_file(whole.file("model/model.safetensors"))
    assert {x.dtype for x in weights.values()} == {torch.bfloat16}
    slow = config([FLAT | {"learning_rate": 1e-6}], {"model": "whole"}, optimizer={"lr": 1e-6, "weight_decay": 0.0})
    found = load_file(train(tmp_path / "on", slow, 7, tokens=tokens, model=whole).file("model/model.safetensors"))
    assert {x.dtype for x in found.values()} == {torch.float32}
    assert min((x != weights[name].float()).float().mean().item() for name, x in found.items()) > 0.9


def test_state_of_another_precision_is_refused(tmp_path: Path, tokens: Artifact) -> None:
    plateau = train(tmp_path / "plateau", config([WARM, FLAT], keep_state=True), 7, tokens=tokens)
    branch = config([DOWN], {"state": "plateau"}, precision={"weights": "bfloat16"})
    with pytest.raises(
        UserError, match=r"float32 in the checkpoint and bfloat16 in this run; set precision\.weights as in the"
    ):
        train(tmp_path / "decay", branch, 8, tokens=tokens, state=plateau)


def test_a_killed_branch_resumes(tmp_path: Path, tokens: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    plateau = train(tmp_path / "plateau", config([WARM, FLAT], keep_state=True), 7, tokens=tokens)
    branch = config([DOWN], {"state": "plateau"}, checkpoint_every=1)
    whole = train(tmp_path / "whole", branch, 7, tokens=tokens, state=plateau)
    ctx = killed(tmp_path / "cut", branch, monkeypatch, 10, tokens=tokens, state=plateau)
    for name in ("model/model.safetensors", "metrics.jsonl"):
        assert (ctx.directory / name).read_bytes() == whole.file(name).read_bytes()


def test_two_decays_branch_off_one_plateau(tmp_path: Path, tokens: Artifact) -> None:
    plateau = train(tmp_path / "plateau", config([WARM, FLAT], keep_state=True), 7, tokens=tokens)
    before = plateau.path.joinpath("manifest.json").read_bytes()
    short = config([{**DOWN, "tokens": 256}], {"state": "plateau"})
    cosine = config([{**DOWN, "shape": "cosine"}], {"state": "plateau"})
    made = [train(tmp_path / n, c, 7, tokens=tokens, state=plateau) for n, c in (("short", short), ("cosine", cosine))]
    assert [a.counts["steps"] for a in made] == [2, 4]
    weights = {a.file("model/model.safetensors").read_bytes() for a in (*made, plateau)}
    assert len(weights) == 3
    assert plateau.path.joinpath("manifest.json").read_bytes() == before


def test_other_tokens_are_refused(tmp_path: Path, tokens: Artifact) -> None:
    plateau = train(tmp_path / "plateau", config([FLAT], keep_state=True), 7, tokens=tokens)
    other = make_tokens(tmp_path, seed=1)
    with pytest.raises(UserError, match=r"stages\.p\.inputs\.tokens: plateau-done was trained on different tokens"):
        train(tmp_path / "decay", config([DOWN], {"state": "plateau"}), 7, tokens=other, state=plateau)


def recipe(tmp_path: Path, *overrides: str, **stages: Any) -> Any:
    path = tmp_path / "r.yaml"
    tokenize = {"kind": "tokenize", "inputs": {"documents": "curate"}}
    curate = {"kind": "curate", "sources": ["web"], "quality": {"web": "hq"}}
    made = {n: s.model_dump(exclude_unset=True) for n, s in stages.items()}
    data = {
        "name": "r",
        "model": MODEL,
        "tokenizer": {"vocab_size": 300},
        "sources": {"web": {"type": "jsonl", "paths": ["x.jsonl"]}, "mine": {"type": "model", "path": "m"}},
        "stages": {"curate": curate, "tokens": tokenize, **made},
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return load_recipe(path, list(overrides))


def test_a_branch_without_a_state_is_one_clear_line(tmp_path: Path) -> None:
    plateau, decay = config([WARM, FLAT], keep_state=True), config([DOWN], {"state": "plateau"})
    assert recipe(tmp_path, plateau=plateau, decay=decay).needed_by(["decay"]) == [
        "curate",
        "tokens",
        "plateau",
        "decay",
    ]
    for override, message in (
        ("stages.plateau.keep_state=false", "'plateau' does not keep its training state; set stages.plateau"),
        (
            "stages.decay.inputs.state=tokens",
            "'tokens' is not a pretrain stage; only a stage of",
        ),
        (
            "stages.decay.inputs.state=mine",
            "'mine' is not a pretrain stage; only a stage of the same kind can be continued",
        ),
        ("stages.decay.optimizer.name=muon", "does not fit optimizer.name muon; set the same optimizer in both"),
        (
            "stages.decay.precision={weights: bfloat16}",
            "keeps its state in float32, but precision.weights of decay is bfloat16; set the same value in both",
        ),
        (
            "stages.plateau.packing=best_fit",
            "packs by best fit, which sequential packing cannot continue; set stages.decay.packing: best_fit",
        ),
    ):
        with pytest.raises(UserError) as caught:
            recipe(tmp_path, override, plateau=plateau, decay=decay)
        assert "stages.decay.inputs.state: " in str(caught.value)
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_the_plan_of_a_branch_counts_on(tmp_path: Path) -> None:
    plateau, decay = config([WARM, FLAT], keep_state=True), config([DOWN], {"state": "plateau"}, default_max_epochs=1.5)
    both = recipe(tmp_path, plateau=plateau, decay=decay)
    assert [p.steps for p in plan_pretraining(both, "decay", {}).phases] == [4]
    with pytest.raises(UserError, match=r"source 'b' would be seen 1\.66 times"):
        plan_pretraining(both, "decay", {"a": 1000.0, "b": (1024 / 3 + 512) / 1.66})


def with_validation(tokens: Artifact, folder: Path) -> Artifact:
    """The same tokens, with documents for validation."""
    partial = folder / "validated.partial"
    shutil.copytree(tokens.path, partial)
    (partial / "manifest.json").unlink()
    shutil.copytree(partial / "shards", partial / "validation")
    return finish(partial, folder / "validated", {"kind": "tokens"}, {})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_average_of_a_decay_is_exported(
    tmp_path: Path, tokens: Artifact, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Steps 9 and 11 of 8 … 11. The state and the log are those of a stage that does not average; a killed stage and a
    branch export the same average."""
    tokens = with_validation(tokens, tmp_path)
    kept: dict[str, Any] = {"keep_state": True, "precision": {"compute": dtype, "weights": dtype}, "validation_rows": 4}
    mean = kept | {"average": {"every": 2}}
    weights: list[dict[str, torch.Tensor]] = []
    before = stage.RopeBase.on_step

    def noting(self: stage.RopeBase, step: int, metrics: Any, lr: float) -> None:
        if step in (9, 11):
            weights.append({name: x.detach().clone().float() for name, x in self.model.state_dict().items()})
        before(self, step, metrics, lr)

    with monkeypatch.context() as patch:
        patch.setattr(stage.RopeBase, "on_step", noting)
        plain = train(tmp_path / "plain", config([WARM, FLAT, DOWN], **kept), 7, tokens=tokens)
    whole = train(tmp_path / "whole", config([WARM, FLAT, DOWN], **mean), 7, tokens=tokens)
    plateau = train(tmp_path / "plateau", config([WARM, FLAT], **kept), 7, tokens=tokens)
    branch = config([DOWN], {"state": "plateau"}, **mean)
    decay = train(tmp_path / "decay", branch, 8, tokens=tokens, state=plateau)

    found = load_file(whole.file("model/model.safetensors"))
    assert len(weights) == 2
    for name, x in found.items():
        wanted = (weights[0][name] + weights[1][name]) / 2
        assert x.dtype == getattr(torch, dtype)
        assert torch.allclose(x.float(), wanted, rtol=1e-2 if dtype == "bfloat16" else 1e-5, atol=1e-7), name
    assert decay.file("model/model.safetensors").read_bytes() == whole.file("model/model.safetensors").read_bytes()
    for name in ("metrics.jsonl", "state/state.json", "validation/2.json"):
        assert whole.file(name).read_bytes() == plain.file(name).read_bytes()
    [one], [other] = ((a.path / "state").glob("*.safetensors") for a in (whole, plain))
    assert one.read_bytes() == other.read_bytes()
    assert "average" not in plain.counts
    counted = whole.counts["average"]
    assert counted["weights"] == 2
    assert counted["validation"]["last"] == {n: x for n, x in json.loads(
        plain.file("validation/2.json").read_text()
    ).items() if n != "phase"}  # fmt: skip
    assert counted["validation"]["average"].keys() == {"a", "b"}
    assert counted["validation"]["average"] != counted["validation"]["last"]

    cut = killed(tmp_path / "cut", branch, monkeypatch, 10, tokens=tokens, state=plateau)
    for name in ("model/model.safetensors", "metrics.jsonl", "average.json"):
        assert (cut.directory / name).read_bytes() == decay.file(name).read_bytes()
    assert cut.counts["average"] == counted


def killed(
    directory: Path, settings: PretrainConfig, monkeypatch: pytest.MonkeyPatch, at: int, **inputs: Artifact
) -> StageContext:
    """Trains, dies before step `at`, and trains again."""
    from thinkling.model.config import ModelConfig

    before = stage.RopeBase.before_step

    def dying(self: stage.RopeBase, step: int) -> None:
        if step == at:
            raise KeyboardInterrupt
        before(self, step)

    model = ModelConfig.model_validate(MODEL)
    ctx = StageContext(name="p", directory=directory, inputs=inputs, seed=7, model=model)
    ctx.directory.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(stage.RopeBase, "before_step", dying)
        with pytest.raises(KeyboardInterrupt):
            stage.run(settings, ctx)
    stage.run(settings, ctx)
    return ctx


def test_a_batch_ramp_is_exact_and_resumes(tmp_path: Path, tokens: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """2, 4 and 8 rows per step. Rows and epochs are those of the phases; a stage killed at a boundary or between two
    boundaries, and a branch, produce the same bytes."""
    small, large = ({**FLAT, "name": f"{n}", "batch_tokens": n} for n in (64, 256))
    kept = {"keep_state": True}
    ramp = config([WARM, small, large, DOWN], **kept)
    whole = train(tmp_path / "whole", ramp, 7, tokens=tokens)
    log = [json.loads(line) for line in whole.file("metrics.jsonl").read_text().splitlines()]
    # 256 tokens of 4 rows, 768 of 2 rows, 768 of 8 rows; 512 tokens of 4 rows of 64 tokens
    assert [sum(line["rows"].values()) for line in log] == [4] * 2 + [2] * 12 + [8] * 3 + [4] * 2
    assert (whole.counts["steps"], whole.counts["tokens"]) == (19, 256 + 768 + 768 + 512)
    drawn = {name: sum(line["rows"].get(name, 0) for line in log) for name in ("a", "b")}
    assert drawn == {name: used["rows"] for name, used in whole.counts["sources"].items()}
    for at in (14, 16):
        cut = killed(tmp_path / f"cut{at}", ramp, monkeypatch, at, tokens=tokens)
        for name in ("model/model.safetensors", "metrics.jsonl"):
            assert (cut.directory / name).read_bytes() == whole.file(name).read_bytes()
        assert cut.counts["sources"] == whole.counts["sources"]

    plateau = train(tmp_path / "plateau", config([WARM, small], **kept), 7, tokens=tokens)
    branch = config([large | {"batch_tokens": None}, DOWN], {"state": "plateau"}, batch_tokens=256, **kept)
    rest = train(tmp_path / "rest", branch, 8, tokens=tokens, state=plateau)
    assert rest.file("model/model.safetensors").read_bytes() == whole.file("model/model.safetensors").read_bytes()
    logs = [a.file("metrics.jsonl").read_text() for a in (plateau, rest, whole)]
    assert logs[0] + logs[1] == logs[2]


def test_micro_batches_of_a_ramp_are_the_same_training(tmp_path: Path, tokens: Artifact) -> None:
    ramp = [{**FLAT, "name": f"{n}", "tokens": 512, "batch_tokens": n} for n in (64, 256)]
    curves = []
    for size in (None, 3):
        made = train(tmp_path / f"m{size}", config(ramp, micro_batch_size=size), 7, tokens=tokens)
        curves.append([json.loads(line) for line in made.file("metrics.jsonl").read_text().splitlines()])
    assert [line["rows"] for line in curves[0]] == [line["rows"] for line in curves[1]]
    assert [line["loss"] for line in curves[0]] == pytest.approx([line["loss"] for line in curves[1]], rel=1e-4)
