"""rl with adapters: samples come from the merged weights of the current step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.rl.test_stage import config, context, judged_by, log, low_first, stopping
from thinkling.data.artifact import content_files
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.stages.rl import stage as rl_stage
from thinkling.stages.rl.collect import Collector

__all__ = ["judged_by", "stopping"]
LORA: dict[str, Any] = {"rank": 8, "alpha": 16}


@pytest.mark.usefixtures("stopping")
def test_rewards_rise_on_policy(tmp_path: Path, start: Path, judged_by: Any) -> None:
    """The mismatch between sampling and training is that of rounding, although they use different weights."""
    judged_by(low_first)
    confident = load_pretrained(start)  # adapters cannot change the head, so its logits must be able to differ
    confident.model.norm.weight.data.mul_(3.0)
    save_pretrained(confident, tmp_path / "model", start, {})
    ctx = context(tmp_path / "r", tmp_path / "model")
    sizes = {"steps": 15, "prompts_per_step": 6, "samples_per_prompt": 8, "max_refills": 1}
    rl_stage.run(config(**sizes, lora=LORA, optimizer={"lr": 0.01, "clip_norm": None}, decay_fraction=0), ctx)
    lines = log(ctx.directory)
    assert sum(line["reward"] for line in lines[-3:]) / 3 > 0.9 > sum(line["reward"] for line in lines[:3]) / 3
    assert all(line["mismatch_max"] < 1e-4 and line["mismatch_kl"] < 1e-6 for line in lines)
    before, after = (load_file(path / "model.safetensors") for path in (tmp_path / "model", ctx.directory / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)
    assert (ctx.directory / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.usefixtures("stopping")
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, start: Path, judged_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(low_first)
    settings = config(lora=LORA)
    whole, cut = context(tmp_path / "whole", start), context(tmp_path / "cut", start)
    rl_stage.run(settings, whole)
    collect = Collector.collect

    def dying(self: Collector, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return collect(self, step)

    monkeypatch.setattr(Collector, "collect", dying)
    with pytest.raises(KeyboardInterrupt):
        rl_stage.run(settings, cut)
    monkeypatch.setattr(Collector, "collect", collect)
    cut = context(tmp_path / "cut", start)
    rl_stage.run(settings, cut)
    assert cut.counts == whole.counts
    names = list(content_files(whole.directory))
    assert list(content_files(cut.directory)) == names
    assert "adapter/adapter_model.safetensors" in names
    assert all((cut.directory / n).read_bytes() == (whole.directory / n).read_bytes() for n in names)
