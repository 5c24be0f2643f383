"""The kills and continuations of the claims exact.ranks and exact.kills, fewer of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.exactness.ranks import differing_bytes, measure, wrong_orders


@pytest.mark.slow
def test_killed_ranks_continue_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = measure(tmp_path, kills=4, seed=1)
    assert found["exact.ranks"]["value"] <= 1e-5
    assert found["exact.ranks"]["cases"].keys() == {f"{s}, {n}" for s in ("pretrain", "sft", "dpd") for n in (1, 4)}
    assert found["exact.rank-order"]["value"] == found["exact.kills"]["value"] == 0
    assert found["exact.kills"]["n"] == 4


def test_differences_are_counted(tmp_path: Path) -> None:
    for name, rows, loss in (("a", ["x", "y"], 1.0), ("b", ["x", "z"], 2.0)):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}" * (1 if name == "a" else 3))
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"loss": loss}) + "\n")
        (tmp_path / f"{name}-order").mkdir()
        for rank in (0, 1):
            line = json.dumps({"step": 0, "rows": rows[rank : rank + 1]}) + "\n"
            (tmp_path / f"{name}-order" / f"2-{rank}.jsonl").write_text(line + '{"step": 1, "ro')
    a, b = tmp_path / "a", tmp_path / "b"
    assert (differing_bytes(a, a), wrong_orders(a, a)) == (0, 0)
    assert (differing_bytes(b, a), wrong_orders(b, a)) == (4 + 1, 1)
