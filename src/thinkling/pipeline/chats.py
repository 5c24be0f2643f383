"""Checks, before a run starts, that the chat templates of the recipe's model sources can render its conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.sources.base import Source
from thinkling.stages.chat import ChattingConfig
from thinkling.stages.sft.config import SftConfig

FIRST = 100
"""Number of conversations to try per source."""


def wrong_chats(recipe: Recipe, stages: Iterable[str]) -> Iterator[str]:
    """Yield an error message for each pair of model and chat template with which a prompt cannot be rendered.

    The message starts with the first field of the recipe that uses the model and the template together.
    """
    from thinkling.generate.renderer import Renderer

    seen: set[tuple[str, str]] = set()
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, ChattingConfig):
            continue
        for field, (role, chat) in stage.chats().items():
            producer = stage.inputs.get(role, "")
            pair = (producer, chat.model_dump_json())
            if producer not in recipe.sources or pair in seen:
                continue
            seen.add(pair)
            try:
                Renderer.load(recipe.sources[producer].directory(), chat).prompt([{"role": "user", "content": "x"}])
            except UserError as error:
                yield f"stages.{name}.{field}: {error}"


def lost_in_templates(recipe: Recipe, stages: Iterable[str]) -> Iterator[str]:
    """Yield an error message for each source of an sft stage that the chat template of the user's model cannot render.

    Only the first conversations of each source are rendered. A template that would drop content is an error too.
    """
    for name in stages:
        stage = recipe.stages[name]
        model = recipe.sources.get(stage.inputs.get("model", ""))
        if not isinstance(stage, SftConfig) or model is None or stage.unrenderable != "error":
            continue
        for wanted in stage.examples:
            try:
                _try_first(recipe.sources_of([wanted.source])[wanted.source], model.directory(), stage)
            except UserError as error:
                yield f"stages.{name}.examples: {error}"


def _try_first(source: Source, model: Path, stage: SftConfig) -> None:
    from thinkling.generate.renderer import Renderer
    from thinkling.stages.sft.fitting import encoder

    encode = encoder(Renderer.load(model, stage.chat))
    for conversation in islice(source.first(), FIRST):
        encode(conversation)
