"""What stages share that talk with a model. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from thinkling.generate.config import ChatConfig
from thinkling.stages.base import StageConfig


class ChattingConfig(StageConfig):
    """A stage that talks with models of its inputs."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        """Field → role in `inputs` of a model that is talked with in chats, and its chat template."""
        return {}

    def digested_paths(self) -> dict[str, Path]:
        paths = {field: chat.path for field, (_, chat) in self.chats().items()}
        return {**super().digested_paths(), **{f"{f}.template": path for f, path in paths.items() if path is not None}}


class ChatStageConfig(ChattingConfig):
    """Fields of a stage that talks with the model of its role `model`."""

    chat: ChatConfig = Field(default_factory=ChatConfig)
    """Chat template of the model, and the template's variables."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return {"chat": ("model", self.chat)}
