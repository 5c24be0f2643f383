"""`sandbox: none` skips what would run a model's code, and what depends on that, each with its reason."""

from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console

from thinkling.errors import UserError
from thinkling.pipeline import checks, doctor, runner
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.sources.base import Source

RECIPES = Path(__file__).parents[2] / "recipes"
OPTIMIZER = {"lr": 1e-3}


def recipe(sandbox: str, **more: Any) -> Recipe:
    def rl(model: str, *sources: str) -> dict[str, Any]:
        problems = [{"source": source, "n_problems": 1} for source in sources]
        inputs = {"model": model}
        sizes = {"steps": 1, "prompts_per_step": 1, "max_new_tokens": 8}
        return {"kind": "rl", "inputs": inputs, "problems": problems, "optimizer": OPTIMIZER, **sizes}

    def evaluate(model: str, *sources: str) -> dict[str, Any]:
        sets = {source: {"source": source} for source in sources}
        return {"kind": "evaluate", "inputs": {"model": model}, "task_sets": sets, "max_new_tokens": 8}

    stages = {
        "rl_stem": rl("start", "puzzles"),
        "evaluate_stem": evaluate("rl_stem", "puzzles"),
        "rl_code": rl("rl_stem", "programs", "puzzles"),
        "evaluate_code": evaluate("rl_code", "puzzles"),
        "evaluate_programs": evaluate("rl_stem", "puzzles", "programs"),
    }
    sources = {
        "start": {"type": "model", "path": "start"},
        "puzzles": {"type": "puzzles", "families": {"sort": {}}},
        "programs": {"type": "puzzles", "families": {"program": {}}},
    }
    return Recipe.model_validate({"name": "r", "sandbox": sandbox, "sources": sources, "stages": stages | more})


def test_what_runs_code_is_skipped_with_its_reason() -> None:
    skipped = recipe("none").skipped()
    assert list(skipped) == ["rl_code", "evaluate_code", "evaluate_programs"]
    assert "runs programs that a model wrote (source programs)" in skipped["rl_code"]
    assert skipped["evaluate_code"] == "it depends on rl_code, which is skipped"


def test_nothing_is_skipped_unasked() -> None:
    assert recipe("required").skipped() == {}


def test_dpd_and_refine_judge_programs_too() -> None:
    dpd = {
        "kind": "dpd", "inputs": {"model": "start", "teacher": "start"}, "problems": [{"source": "programs"}],
        "pairs": {"max_new_tokens": 8},
        "optimizer": OPTIMIZER, "steps": 2, "batch_size": 1, "sequence_length": 16,
    }  # fmt: skip
    teacher = {"input": "teacher", "max_new_tokens": 8}
    refine = {
        "kind": "refine", "inputs": {"teacher": "start"}, "problems": {"source": "programs"},
        "drafters": [teacher], "evaluators": [teacher],
        **dict.fromkeys(("checklist", "reviser", "chain"), teacher),
    }  # fmt: skip
    assert {"dpd", "refine"} <= set(recipe("none", dpd=dpd, refine=refine).skipped())


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_shipped_recipes_without_a_sandbox_judge_no_program(name: str) -> None:
    left = load_recipe(RECIPES / f"{name}.yaml", ["sandbox=none"])
    assert "rl_code" in left.skipped()
    assert set(left.judging()) <= set(left.skipped())
    assert "sft" not in left.skipped()


def test_skipped_stages_do_not_run_and_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.Run(recipe("none"), tmp_path)
    assert runner.execute(run, Console(width=200), ["rl_code"]) == []
    assert "rl_code: skipped: sandbox: none" in capsys.readouterr().out


def test_a_machine_without_a_sandbox_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "missing_feature", lambda: "no Landlock")
    run = runner.Run(load_recipe(RECIPES / "nano.yaml"), tmp_path)
    with pytest.raises(
        UserError, match=r"^rl_code, .*: running programs .*\(no Landlock\); to skip .*, set `sandbox: none`"
    ):
        runner.execute(run, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "missing_feature", lambda: "no Landlock")
    monkeypatch.setattr(doctor, "missing_feature", lambda: "no Landlock")
    levels = {}
    for setting in ("required", "none"):
        found = doctor.examine(load_recipe(RECIPES / "nano.yaml", [f"sandbox={setting}"]))
        levels[setting] = next(f.level for f in found if f.what == "sandbox")
    assert levels == {"required": "missing", "none": "note"}


class CodingSource(Source):
    """Problems whose tools it is told."""

    type: Literal["coding"] = "coding"
    names: tuple[str, ...]
    offers = frozenset({"problems"})

    def tool_names(self) -> frozenset[str]:
        return frozenset(self.names)


def coding(*names: str, max_tool_calls: int = 3, sandbox: str = "none") -> Recipe:
    """A recipe that evaluates on problems with these tools, and on others."""
    stages = {
        name: {
            "kind": "evaluate",
            "inputs": {"model": "start"},
            "max_new_tokens": 8,
            "max_tool_calls": max_tool_calls,
            "task_sets": {source: {"source": source}},
        }
        for name, source in (("with_tools", "coding"), ("without", "puzzles"))
    }
    sources = {
        "start": {"type": "model", "path": "start"},
        "puzzles": {"type": "puzzles", "families": {"calc": {}}},
        "coding": CodingSource(names=names),
    }
    return Recipe.model_validate({"name": "r", "sandbox": sandbox, "sources": sources, "stages": stages})


def test_stages_that_would_call_python_are_skipped() -> None:
    assert set(coding("calculator", "python").skipped()) == {"with_tools"}
    assert "runs programs that a model wrote (source coding)" in coding("python").skipped()["with_tools"]
    assert coding("python", sandbox="required").judging() == {"with_tools": "coding"}
    assert coding("calculator").skipped() == {}
    assert coding("python", max_tool_calls=0).skipped() == {}


def test_a_machine_without_a_sandbox_refuses_stages_that_would_call_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "missing_feature", lambda: "no Landlock")
    found = next(checks.wrong(coding("python", sandbox="required"), ["without", "with_tools"]))
    assert (found.what, found.line.startswith("with_tools: running programs")) == ("sandbox", True)


def test_an_unknown_tool_is_refused_when_the_recipe_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"sources\.coding: unknown tool 'pyhton'; use one of calculator, python"):
        coding("pyhton")


def test_packages_of_the_sandbox_are_a_part_of_what_a_judging_stage_depends_on() -> None:
    plain = load_recipe(RECIPES / "nano.yaml")
    asked = load_recipe(RECIPES / "nano.yaml", ["sandbox={packages: [sympy, numpy]}"])
    assert (plain.packages(), asked.packages()) == ((), ("numpy", "sympy"))
    assert asked.skipped() == {}
    judging = next(iter(asked.judging()))
    other = next(name for name in asked.stages if name not in asked.judging())
    found, before = runner.Run(asked, Path("runs")), runner.Run(plain, Path("runs"))
    assert found.resolved(judging) == before.resolved(judging) | {"packages": ("numpy", "sympy")}
    assert found.resolved(other) == before.resolved(other)


def test_a_package_that_is_not_installed_is_said_before_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "nano.yaml", ["sandbox={packages: [sympy]}"])
    monkeypatch.setattr("thinkling.sandbox.packages.missing", lambda names: ["mpmath"] if names else [])
    [missing] = [found.detail for found in doctor.examine(recipe) if found.level == "missing"]
    assert "not installed: mpmath" in missing
    with pytest.raises(UserError, match=r"^sandbox\.packages: not installed: mpmath"):
        runner.execute(runner.Run(recipe, tmp_path), Console(quiet=True))


def test_an_unknown_package_of_the_sandbox_is_refused() -> None:
    with pytest.raises(UserError, match="sandbox"):
        load_recipe(RECIPES / "nano.yaml", ["sandbox={packages: [torch]}"])
