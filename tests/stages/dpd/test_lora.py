"""dpd with adapters: the reference is the initial checkpoint, and samples come from merged weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.dpd.knowing import context as knowing_context
from thinkling.data.tokenizer import Tokenizer
from thinkling.stages.base import StageContext
from thinkling.stages.dpd import stage
from thinkling.stages.dpd.pairs import read_pairs


@pytest.fixture
def run(
    tmp_path: Path, save_model: Callable[..., Path], knowing, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer,
    make_config,
) -> Callable[..., StageContext]:  # fmt: skip
    for seed, (role, hidden) in enumerate([("model", 16), ("teacher", 32)]):
        save_model(tmp_path / role, seed=seed, hidden=hidden)
    monkeypatch.setattr(stage, "make_engine", knowing)

    def run(name: str, **fields) -> StageContext:
        (tmp_path / name).mkdir(exist_ok=True)
        ctx = knowing_context(tmp_path / name, tmp_path)
        knowing.learn(stage.problems(make_config(), ctx), tokenizer)
        stage.run(make_config(**fields), ctx)
        return ctx

    return run


def test_the_reference_is_the_initial_checkpoint(run, tmp_path: Path) -> None:
    """Log-probabilities without adapters equal those of a stage that trains all weights, and the first margin is 0."""
    whole, adapted = run("whole"), run("adapted", lora={"rank": 4, "alpha": 8})
    for a, b in zip(*(read_pairs(ctx.directory / "pairs.parquet") for ctx in (whole, adapted)), strict=True):
        assert a.chosen.reference_log_prob == pytest.approx(b.chosen.reference_log_prob, rel=1e-5)
        assert a.rejected.reference_log_prob == pytest.approx(b.rejected.reference_log_prob, rel=1e-5)
    lines = [json.loads(line) for line in (adapted.directory / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["dpo_margin"] == 0.0
    assert lines[-1]["dpo"] < lines[0]["dpo"]
    assert len(load_file(adapted.directory / "adapter" / "adapter_model.safetensors")) == 2 * 7
    before = load_file(tmp_path / "model" / "model" / "model.safetensors")
    after = load_file(adapted.directory / "model" / "model.safetensors")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"model.layers.0.{name}.weight"
        for name in (
            *(f"self_attn.{x}_proj" for x in "qkvo"),
            *(f"mlp.{x}_proj" for x in ("gate", "up", "down")),
        )
    }
