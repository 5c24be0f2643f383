"""A recipe that says `sandbox: none`: what would run code that a model wrote is left out, and named in the result."""

from __future__ import annotations

from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.stages.base import StageConfig
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sources import Source


def left_out(recipe: Recipe) -> list[str]:
    """What `without_code` drops: `rl_code` for a stage, `evaluate.task_sets.programs` for a task set."""
    found: list[str] = []
    for name, stage in recipe.stages.items():
        if isinstance(stage, RlConfig) and any(_runs_code(recipe.sources[p.source]) for p in stage.problems):
            found.append(name)
        elif isinstance(stage, EvaluateConfig):
            sets = [t for t, task_set in stage.task_sets.items() if _runs_code(recipe.sources[task_set.source])]
            # The model that such an evaluation scores is left out, so it would score the one before again.
            if stage.inputs.get("model") in found or len(sets) == len(stage.task_sets):
                found.append(name)
            else:
                found += [f"{name}.task_sets.{t}" for t in sets]
    return found


def without_code(recipe: Recipe) -> Recipe:
    """The recipe as it runs: as it is, or, with `sandbox: none`, without what needs a sandbox. A stage that would start
    from a model of a stage left out starts from the model before; an optional input of another kind is left out too.

    Raises UserError where a stage needs of it something else than a model.
    """
    if recipe.sandbox != "none":
        return recipe
    gone = left_out(recipe)
    stages: dict[str, StageConfig] = {}
    dropped: list[str] = []
    for name, stage in recipe.stages.items():
        if name in gone:
            continue
        optional = [
            role
            for role, giver in stage.inputs.items()
            if giver in gone and recipe.stages[giver].produces != "model" and f"{role}?" in stage.roles
        ]
        dropped += [f"{name}.inputs.{role}" for role in optional]
        inputs = {r: _giver(recipe, name, r, giver, gone) for r, giver in stage.inputs.items() if r not in optional}
        changes: dict[str, object] = {"inputs": inputs}
        if isinstance(stage, EvaluateConfig):
            kept = {t: s for t, s in stage.task_sets.items() if f"{name}.task_sets.{t}" not in gone}
            changes["task_sets"] = kept
        stages[name] = stage.model_copy(update=changes)
    kept = recipe.model_copy(update={"stages": stages})
    kept._left_out = (*gone, *dropped)
    return kept


def _giver(recipe: Recipe, name: str, role: str, giver: str, gone: list[str]) -> str:
    while giver in gone:
        stage = recipe.stages[giver]
        if stage.produces != "model":
            raise UserError(
                f"stages.{name}.inputs.{role}: {giver} is left out since the recipe says sandbox: none; name another"
            )
        giver = stage.inputs["model"]
    return giver


def _runs_code(source: Source) -> bool:
    """Whether a verifier of the source's problems runs what a model wrote."""
    from thinkling.tasks.families import FAMILIES

    return any(
        FAMILIES[family].verifier == "program" for family in getattr(source, "families", ()) if family in FAMILIES
    )
