"""Source type for an existing model: a starting point for training, a teacher or a judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from thinkling.data.hub import is_repo, snapshot
from thinkling.errors import UserError
from thinkling.sources.base import Source

if TYPE_CHECKING:
    from thinkling.data.artifact import Artifact


class ModelSource(Source):
    """A Hugging Face model, in a local directory or on the Hub."""

    type: Literal["model"]
    path: str
    """Directory with config.json, safetensors files, tokenizer.json and, for chat, a chat template. If no such
    directory exists, `path` is the name of a model on the Hugging Face Hub, such as
    `HuggingFaceTB/SmolLM2-135M-Instruct`."""
    revision: str | None = None
    """Commit, tag or branch of a model on the Hub. If not set, the main branch is used. The digest of the weights is
    part of the hash of stages that use the model."""

    artifact_kind: ClassVar[str | None] = "model"

    @model_validator(mode="after")
    def _on_hub_if_revision(self) -> Self:
        if self.revision is not None and not is_repo(self.path):
            raise ValueError(
                f"revision: only valid for a model on the Hub; {self.path} is not a Hub name, so remove revision"
            )
        return self

    def directory(self) -> Path:
        """Returns the model's directory. Raises UserError if a model on the Hub is neither cached nor downloadable."""
        return snapshot(self.path, "model", self.revision).directory if is_repo(self.path) else Path(self.path)

    def artifact(self) -> Artifact:
        """Returns the model's directory as an artifact. Raises UserError if the directory has no config.json."""
        from thinkling.data.artifact import model_source

        directory = self.directory()
        if not (directory / "config.json").is_file():
            raise UserError(
                f"sources.{self.name}: {directory} is not a Hugging Face model directory: it has no config.json; "
                "correct the path"
            )
        return model_source(directory)

    def summary(self) -> str:
        self.artifact()
        if is_repo(self.path):
            return f"{self.path}@{snapshot(self.path, 'model', self.revision).commit}/config.json"
        return f"{self.path}/config.json"
