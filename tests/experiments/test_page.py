"""The page of an experiment: everything in it, nothing fetched, everything escaped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import page
from thinkling.errors import UserError


def _report(seeds: int = 3) -> dict[str, Any]:
    def arm(name: str, base: float) -> dict[str, Any]:
        seed = {"thinking_fraction": 0.8, "accuracy_thinking": None if name == "sft" else 0.9, "token_passes": 12345}
        return {
            "name": name,
            "title": f"<b>{name}</b>",
            "overrides": [f"stages.x={{<i>: {name}}}"] if name != "sft" else [],
            "values": [base + 0.01 * s for s in range(seeds)],
            "seconds": [10.0] * seeds,
            "seeds": [seed] * seeds,
        }

    interval = {"low": 0.1, "high": 0.3} if seeds > 1 else {"low": None, "high": None}
    return {
        "experiment": "rl", "question": "Is 1 < 2?", "metric": "avg@8", "unit": "avg@8", "lower_is_better": False,
        "recipe": "recipe.yaml", "command": "python -m experiments rl", "seeds": list(range(seeds)),
        "arms": [arm("sft", 0.4), arm("rl", 0.6)],
        "comparisons": [{
            "arm": "rl", "against": "sft", "differences": [0.2] * seeds, "mean": 0.2, "n": seeds, **interval,
            "over_problems": {"mean": 0.2, "low": 0.15, "high": 0.25, "n": 600},
            "split": [{"total": 0.2, "more_often": 0.15, "better": 0.05, "direct": 0.0}] * seeds,
        }],
    }  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_the_page_holds_every_figure(tmp_path: Path, seeds: int) -> None:
    (tmp_path / page.DATA).write_text(json.dumps(_report(seeds)), encoding="utf-8")
    text = page.write(tmp_path).read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert text.count("<circle") == 2 * seeds + seeds
    assert ("+0.100 … +0.300" in text) == (seeds > 1)
    for shown in ("rl − sft", "+0.150 … +0.250", "thinks more often", "12,345", "python -m experiments rl"):
        assert shown in text, shown


def test_nothing_is_fetched_and_all_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / page.DATA).write_text(json.dumps(_report()), encoding="utf-8")
    text = page.write(tmp_path).read_text(encoding="utf-8")
    assert "<b>rl" not in text
    assert "&lt;b&gt;rl" in text
    assert "{<i>" not in text
    assert not re.findall(r"(?:src|href)=|@import|url\(|<script", text)


def test_arms_without_thinking_have_empty_cells(tmp_path: Path) -> None:
    report = _report()
    for arm in report["arms"]:
        arm["seeds"] = [{}] * 3
    for one in report["comparisons"]:
        del one["split"], one["over_problems"]
    (tmp_path / page.DATA).write_text(json.dumps(report), encoding="utf-8")
    text = page.write(tmp_path).read_text(encoding="utf-8")
    assert "thinks more often" not in text


def test_a_folder_without_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        page.write(tmp_path)
    (tmp_path / page.DATA).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"experiment\.json cannot be read"):
        page.write(tmp_path)
