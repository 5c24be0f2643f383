"""Whether conversations can be written with the recipe's own models, found out before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.stages.chat import ChattingConfig


def wrong_chats(recipe: Recipe, stages: Iterable[str]) -> Iterator[str]:
    """What is wrong, a line for each model and chat template, with the first field that asks for them."""
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
