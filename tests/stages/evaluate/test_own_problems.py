"""A user's own problems in evaluate: no families, reasoning or tools."""

from __future__ import annotations

import json
from pathlib import Path

from tests.stages.evaluate.test_stage import start  # noqa: F401  (a fixture)
from tests.stages.own import OwnSource
from thinkling.data.artifact import Artifact
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.evaluate import stage
from thinkling.stages.evaluate.config import EvaluateConfig


def test_scores_of_held_out_problems_of_ones_own(start: Path, tmp_path: Path) -> None:  # noqa: F811
    ctx = StageContext(
        "e", tmp_path, {"model": Artifact(start, {})}, 1, sources=bound({"own": OwnSource(type="own", n=0)})
    )
    settings = {"kind": "evaluate", "inputs": {"model": "x"}, "task_sets": {"own": {"source": "own"}}, "k": 2}
    stage.run(EvaluateConfig.model_validate({**settings, "max_new_tokens": 4}), ctx)
    (found,) = json.loads((tmp_path / "scores.json").read_text())
    assert (found["n"], found["k"], list(found["per_family"])) == (5, 2, ["own"])
