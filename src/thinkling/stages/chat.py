"""Base classes for stages that chat with a model. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from thinkling.generate.config import ChatConfig
from thinkling.stages.base import StageConfig


class ChattingConfig(StageConfig):
    """A stage that chats with one or more of its input models."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        """Returns a mapping from configuration field to (role of a chat model in `inputs`, settings of its chat
        template)."""
        return {}

    def digested_paths(self) -> dict[str, Path]:
        paths = {field: chat.path for field, (_, chat) in self.chats().items()}
        return {**super().digested_paths(), **{f"{f}.template": path for f, path in paths.items() if path is not None}}


class ChatStageConfig(ChattingConfig):
    """Fields of a stage that chats with the model in the role `model`."""

    chat: ChatConfig = Field(default_factory=ChatConfig)
    """The model's chat template and its variables."""

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return {"chat": ("model", self.chat)}
