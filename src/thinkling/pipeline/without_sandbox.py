"""Recipes and the sandbox: what `sandbox: none` leaves out, and a machine without one refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.puzzles.families import FAMILIES
from thinkling.stages.base import StageConfig

VERIFIER = "program"
"""The verifier that runs what a model wrote."""


def code_sources(recipe: Recipe) -> list[str]:
    """Sources of problems whose verifier runs what a model wrote."""
    return [
        name
        for name, source in recipe.sources.items()
        if any(FAMILIES[f].verifier == VERIFIER for f in getattr(source, "families", ()) if f in FAMILIES)
    ]


def without_code(recipe: Recipe) -> Recipe:
    """The recipe as it runs: as it is, or, with `sandbox: none`, without what judges programs, which is named in
    `left_out`. What would start from a model of a stage left out starts from the model before; what would only score
    it is left out too, and so is an optional input of another kind.

    Raises UserError where a stage needs of it something else than a model.
    """
    if recipe.sandbox != "none":
        return recipe
    sources = code_sources(recipe)
    stages: dict[str, StageConfig] = {}
    gone: list[str] = []
    left_out: list[str] = []
    for name, stage in recipe.stages.items():
        kept, dropped = stage.without_answers_to(sources)
        # The model that it scores is left out, so it would score the one before again.
        if kept is None or (stage.produces == "scores" and stage.inputs.get("model") in gone):
            gone.append(name)
            left_out.append(name)
            continue
        inputs = {role: _giver(recipe, name, role, giver, gone) for role, giver in kept.inputs.items()}
        dropped += [f"inputs.{role}" for role, giver in inputs.items() if giver is None]
        found = {role: giver for role, giver in inputs.items() if giver is not None}
        stages[name] = kept.model_copy(update={"inputs": found})
        left_out += [f"{name}.{field}" for field in dropped]
    smaller = recipe.model_copy(update={"stages": stages})
    smaller._left_out = tuple(left_out)
    return smaller


def _giver(recipe: Recipe, name: str, role: str, giver: str, gone: list[str]) -> str | None:
    """The stage that gives the input now; None for an optional one that nothing gives."""
    while giver in gone:
        stage = recipe.stages[giver]
        if stage.produces != "model":
            if f"{role}?" in recipe.stages[name].roles:
                return None
            raise UserError(
                f"stages.{name}.inputs.{role}: {giver} is left out since the recipe says sandbox: none; name another"
            )
        giver = stage.inputs["model"]
    return giver


def needs_sandbox(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """Those of the stages that judge programs."""
    sources = code_sources(recipe)
    return [name for name in names if recipe.stages[name].without_answers_to(sources) != (recipe.stages[name], [])]
