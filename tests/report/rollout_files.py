"""Files of samples and grades as the stages leave them, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.report.read import Stage


def sample(problem: str, outcome: str, text: str = "text", **more: Any) -> dict[str, Any]:
    """A row of rollouts/…/00000.parquet."""
    row = {"problem_id": problem, "family": "f", "sample": 0, "question": "q", "reference": "r", "text": text}
    return {**row, "outcome": outcome, "thinks": False, "finish_reason": "stop", **more}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def stage(path: Path, kind: str = "evaluate", **recorded: Any) -> Stage:
    """A stage whose artifact is the folder `path`, with a model of the same name."""
    produces = "scores" if kind == "evaluate" else "model"
    asked = {"kind": kind, "inputs": {"model": f"model of {path.name}"}}
    manifest = {"kind": produces, "resolved": {"stage": asked, "seed": 0}, "counts": {}, "inputs": {}, **recorded}
    manifest["recorded"] = {"wall_seconds": 1.0, "peak_rss_mb": 10.0}
    return Stage(path.name, path, manifest)
