"""`sandbox: none` leaves out what would run a model's code, and names it."""

from typing import Any

import pytest

from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.without_sandbox import without_code

OPTIMIZER = {"lr": 1e-3}


def recipe(sandbox: str, **more: Any) -> Recipe:
    def rl(model: str, *sources: str) -> dict[str, Any]:
        problems = [{"source": source, "problems_per_family": 1} for source in sources]
        inputs = {"model": model}
        return {"kind": "rl", "inputs": inputs, "problems": problems, "steps": 1, "groups": 1, "optimizer": OPTIMIZER}

    def evaluate(model: str, *sources: str) -> dict[str, Any]:
        return {"kind": "evaluate", "inputs": {"model": model}, "task_sets": {s: {"source": s} for s in sources}}

    stages = {
        "rl_stem": rl("start", "puzzles"),
        "rl_code": rl("rl_stem", "programs", "puzzles"),
        "evaluate_code": evaluate("rl_code", "puzzles"),
        "rl_last": rl("rl_code", "puzzles"),
        "evaluate_programs": evaluate("rl_last", "programs"),
        "evaluate": evaluate("rl_last", "puzzles", "programs"),
    }
    sources = {
        "start": {"type": "model", "path": "start"},
        "puzzles": {"type": "tasks", "families": {"sort": {}}},
        "programs": {"type": "tasks", "families": {"program": {}}},
    }
    return Recipe.model_validate({"name": "r", "sandbox": sandbox, "sources": sources, "stages": stages | more})


def test_what_runs_code_is_left_out_and_named() -> None:
    left = without_code(recipe("none"))
    assert left.left_out == ("rl_code", "evaluate_code", "evaluate_programs", "evaluate.task_sets.programs")
    assert list(left.stages) == ["rl_stem", "rl_last", "evaluate"]
    assert left.stages["rl_last"].inputs == {"model": "rl_stem"}
    assert list(left.stages["evaluate"].model_dump()["task_sets"]) == ["puzzles"]


def test_nothing_is_left_out_unasked() -> None:
    whole = recipe("required")
    assert without_code(whole) is whole
    assert whole.left_out == ()


def test_it_cannot_be_set_by_hand() -> None:
    with pytest.raises(ValueError, match="left_out"):
        Recipe.model_validate(recipe("none").model_dump() | {"left_out": ["x"]})


def test_a_baseline_that_is_left_out_is_named() -> None:
    compared = {
        "kind": "evaluate",
        "inputs": {"model": "rl_last", "baseline": "evaluate_code"},
        "task_sets": {"puzzles": {"source": "puzzles"}},
    }
    left = without_code(recipe("none", compared=compared))
    assert left.stages["compared"].inputs == {"model": "rl_last"}
    assert left.left_out[-1] == "compared.inputs.baseline"
