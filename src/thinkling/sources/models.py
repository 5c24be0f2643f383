"""A model of the user's to start from, to teach or to judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from thinkling.sources.base import Source

if TYPE_CHECKING:
    from thinkling.data.artifact import Artifact


class ModelSource(Source):
    """A Hugging Face model directory."""

    type: Literal["model"]
    path: str
    """Directory with config.json, safetensors, tokenizer.json and, for chat, a template."""

    artifact_kind: ClassVar[str | None] = "model"

    def artifact(self) -> Artifact:
        """The directory as an artifact. Raises UserError if it has no config.json."""
        from thinkling.data.artifact import model_source

        return model_source(Path(self.path))

    def summary(self) -> str:
        self.artifact()
        return f"{self.path}/config.json"
