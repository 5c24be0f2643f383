"""The shapes of the models of a recipe's stages, before anything has run."""

from __future__ import annotations

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.pipeline.recipe import Recipe


def model_of(recipe: Recipe, name: str, role: str = "model") -> ModelConfig | None:
    """Return the shape of the model that a stage reads in `role`, or of the model that it creates; None if it is not
    known yet."""
    inputs = recipe.stages[name].inputs
    producer = inputs.get(role) or (inputs.get("state") if role == "model" else None)
    while producer in recipe.stages:
        inputs = recipe.stages[producer].inputs
        producer = inputs.get("model") or inputs.get("state")
    if producer is None:
        return recipe.model
    if recipe.plan_only:
        return None
    from thinkling.model.huggingface import read_config

    try:
        return read_config(recipe.sources[producer].directory())
    except UserError:  # reported by `checks`
        return None
