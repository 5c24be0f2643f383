"""`sandbox: none` leaves out what would run a model's code, and names it."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thinkling.errors import UserError
from thinkling.pipeline import doctor, runner
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.pipeline.without_sandbox import needs_sandbox, without_code
from thinkling.sandbox import kernel

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


def test_dpd_and_refine_judge_no_programs_either() -> None:
    def dpd(source: str, **also: int) -> dict[str, Any]:
        pairs = {"source": source, "problems_per_family": 1, "also": also}
        inputs = {"model": "start", "teacher": "start"}
        sizes = {"steps": 2, "batch_size": 1, "sequence_length": 16}
        return {"kind": "dpd", "inputs": inputs, "pairs": pairs, "optimizer": OPTIMIZER, **sizes}

    teacher = {"input": "teacher"}
    refine = {
        "kind": "refine",
        "inputs": {"teacher": "start"},
        "problems": {"source": "programs", "problems_per_family": 1},
        "drafters": [teacher],
        "evaluators": [teacher],
        **dict.fromkeys(("checklist", "reviser", "chain"), teacher),
    }
    whole = recipe("none", dpd=dpd("puzzles", programs=3), dpd_code=dpd("programs"), refine=refine)
    assert needs_sandbox(whole, ["rl_stem", "rl_code", "evaluate", "dpd", "dpd_code", "refine", "rl_last"]) == [
        "rl_code", "evaluate", "dpd", "dpd_code", "refine",
    ]  # fmt: skip
    left = without_code(whole)
    assert left.left_out[-3:] == ("dpd.pairs.also.programs", "dpd_code", "refine")
    assert left.stages["dpd"].source_names() == ["puzzles"]
    assert needs_sandbox(left, left.stages) == []


def test_a_conversation_that_is_left_out_is_an_optional_input() -> None:
    teacher = {"input": "teacher"}
    refine = {
        "kind": "refine",
        "inputs": {"teacher": "start"},
        "problems": {"source": "programs", "problems_per_family": 1},
        "drafters": [teacher],
        "evaluators": [teacher],
        **dict.fromkeys(("checklist", "reviser", "chain"), teacher),
    }
    sft = {
        "kind": "sft", "inputs": {"model": "start", "conversations": "refine"}, "epochs": 1, "sequence_length": 16,
        "batch_size": 1, "optimizer": OPTIMIZER, "examples": {"source": "puzzles", "problems_per_family": 1},
    }  # fmt: skip
    left = without_code(recipe("none", refine=refine, sft=sft))
    assert left.stages["sft"].inputs == {"model": "start"}
    assert left.left_out[-2:] == ("refine", "sft.inputs.conversations")


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_shipped_recipes_can_do_without(name: str) -> None:
    whole = load_recipe(Path(__file__).parents[2] / "recipes" / f"{name}.yaml", ["sandbox=none"])
    left = without_code(whole)
    assert "rl_code" in left.left_out
    assert needs_sandbox(left, left.stages) == []
    assert left.stages["rl_preference"].inputs["model"] == "rl_stem"


def test_a_machine_without_a_sandbox_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "missing_feature", lambda: "no Landlock")
    nano = load_recipe(Path(__file__).parents[2] / "recipes" / "nano.yaml")
    run = runner.Run(nano, tmp_path)
    with pytest.raises(UserError, match=r"^rl_code, .*: programs that a model .*no Landlock\. Or say sandbox: none"):
        runner.execute(run, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "missing_feature", lambda: "no Landlock")
    nano = Path(__file__).parents[2] / "recipes" / "nano.yaml"
    levels = {}
    for setting in ("required", "none"):
        found = doctor.examine(without_code(load_recipe(nano, [f"sandbox={setting}"])))
        levels[setting] = next(f.level for f in found if f.what == "sandbox")
    assert levels == {"required": "missing", "none": "ok"}
