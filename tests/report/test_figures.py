from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.rollout_files import stage
from thinkling.report.charts import Scale
from thinkling.report.figures import axis, groups, in_view, panel, power_of, shared_scale
from thinkling.report.read import Stage, TrainingLog

RL = {"loss": -0.01, "lr": 1e-4, "reward": 0.5, "thinking_fraction": 1.0, "mean_length": 20.0, "clipped_fraction": 0.0}


def trained(path: Path, rows: list[dict[str, Any]], kind: str = "sft") -> Stage:
    path.mkdir()
    (path / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i, row in enumerate(rows)))
    return stage(path, kind)


def titles(charts: list) -> list[str]:
    return [str(chart).split("<title>")[1].split("<")[0] for chart in charts]


def test_rl_shows_reward_thinking_and_length_and_keeps_the_loss_behind(tmp_path: Path) -> None:
    [group] = groups([trained(tmp_path / "rl", [RL, RL], "rl")])
    [one] = group.stages
    assert titles(one.panels) == ["reward", "thinking share", "length, tokens per sample"]
    assert titles(one.behind) == ["loss", "learning rate", "clipped fraction"]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"loss": 1.0, "lr": 0.1}, ("loss",)),
        ({"loss": 1.0, "lr": 0.1, "rows": {"web": 2}}, ("loss", "lr")),
        ({"loss": 1.0, "dpo_accuracy": 0.5, "dpo_margin": 0.1}, ("loss", "dpo_accuracy", "dpo_margin")),
        ({"loss": 1.0, "reward": 0.5}, ("reward",)),
        ({"speed": 1.0}, ()),
    ],
)
def test_what_is_in_view_follows_from_what_is_logged(row: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert in_view(TrainingLog([row], None)) == wanted


def test_every_metric_is_drawn_once(tmp_path: Path) -> None:
    rows = [{"loss": 1.0, "lr": 0.1, "grad_norm": 2.0, "loss_tokens": 3, "rows": {"web": 2}, "phase": p} for p in "ab"]
    [group] = groups([trained(tmp_path / "pretrain", rows, "pretrain")])
    [one] = group.stages
    assert titles(one.panels) == ["loss", "learning rate", "mixture, share of rows"]
    assert titles(one.behind) == ["grad norm"]
    assert (one.legend, one.phases) == ([("web", "--s1")], ["a", "b"])


def test_stages_of_one_sort_are_small_multiples_on_one_scale(tmp_path: Path) -> None:
    low, high = ({"loss": loss, "lr": 0.1} for loss in (1.0, 4.0))
    first, second = trained(tmp_path / "cold", [low, low]), trained(tmp_path / "sft", [high, high])
    between = trained(tmp_path / "rl", [RL], "rl")
    found = groups([first, between, second])
    assert [(g.title, g.apart, [one.stage.name for one in g.stages]) for g in found] == [
        ("sft: loss", False, ["cold", "sft"]),
        ("rl", True, ["rl"]),
    ]
    assert [titles(one.panels) for one in found[0].stages] == [["cold"], ["sft"]]
    ticks = [[t.split("<")[0] for t in str(one.panels[0]).split('text-anchor="end">')[1:4]] for one in found[0].stages]
    assert ticks[0] == ticks[1]


def test_shares_have_the_scale_0_to_1() -> None:
    half = TrainingLog([{"reward": 0.5, "thinking_fraction": 0.5, "mean_length": 9.0}], None)
    beyond = TrainingLog([{"reward": 1.5}, {"reward": -1.0}], None)
    assert [(s.low, s.high) for s in (shared_scale(k, [half]) for k in ("reward", "thinking_fraction"))] == [(0, 1)] * 2
    assert shared_scale("mean_length", [half]).low == 0
    scale = shared_scale("reward", [half, beyond])
    assert scale.low < -1
    assert scale.high > 1.5


def test_rl_is_drawn_over_steps_even_where_tokens_are_counted() -> None:
    rows = [{"reward": 0.5, "loss_tokens": 7}, {"reward": 0.6, "loss_tokens": 9}]
    assert axis(TrainingLog(rows, None)) == ([1, 2], "steps")
    assert axis(TrainingLog([{"loss_tokens": 7}], None)) == ([7], "tokens with loss")


def test_ticks_of_tiny_values_fit_beside_their_panel() -> None:
    drawn = str(panel(TrainingLog([{"kl": 1.2e-13}, {"kl": 1.9e-13}], None), "kl", "kl"))
    assert "axis × 1e-13" in drawn
    assert ">1.5</text>" in drawn
    assert power_of(Scale(0.002, 0.004, 0, 1)) == 0
    assert power_of(Scale(1e-9, 1e-5, 0, 1, log=True)) == 0


def test_a_metric_that_was_never_a_number_is_drawn_empty() -> None:
    drawn = str(panel(TrainingLog([{"x": float("nan")}, {"x": float("nan")}], None), "x", "x"))
    assert "last nan" in drawn
    assert 'class="line"' not in drawn
