"""What every stage has: a configuration without heavy imports, and the context that the runner hands to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from thinkling.model.config import ModelConfig
from thinkling.stages.sources import Source

if TYPE_CHECKING:
    from thinkling.data.artifact import Artifact
    from thinkling.data.tokenizer_config import TokenizerConfig
    from thinkling.stages.training.config import TrackersConfig


class StageConfig(BaseModel):
    """Fields that all stages share. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str
    inputs: dict[str, str] = Field(default_factory=dict)
    """Role → name of an earlier stage, or of a source of type `model`."""

    output_version: ClassVar[int] = 1
    """Raised by hand when the same configuration comes to give other bytes."""
    roles: ClassVar[Mapping[str, str]] = {}
    """Role → what it must be: documents, tokens, model, scores. A role ending in `?` may be left out."""
    produces: ClassVar[str] = ""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Top-level parts of the recipe that the stage reads: `model`, `tokenizer`."""
    uses_torch: ClassVar[bool] = False
    """Whether the stage computes with torch; the runner then sets its number of threads."""
    distributed: ClassVar[bool] = False
    """Whether every rank of a torchrun takes part; otherwise rank 0 works and the others wait."""

    @property
    def depends_on_threads(self) -> bool:
        """Whether bits of the result depend on the number of threads, which is then hashed."""
        return self.uses_torch

    @property
    def products(self) -> frozenset[str]:
        """Kinds of input that the stage's artifact can serve as."""
        return frozenset({self.produces})

    def source_names(self) -> list[str]:
        """Sources of the recipe that the stage reads itself."""
        return []

    def without_answers_to(self, sources: Collection[str]) -> tuple[Self | None, list[str]]:
        """The stage with no model's answers to problems of these sources judged in it, None where nothing is left of
        it, and the fields that were dropped."""
        return self, []


class Task(Protocol):
    """One progress bar."""

    def advance(self, amount: float = 1, **fields: object) -> None:
        """Moves on by `amount`; `fields` (loss=…, lr=…) are shown beside the bar."""
        ...


class Progress(Protocol):
    """Shows bars with rates and time left; the runner brings one, tests use `Silent`."""

    def track(self, label: str, total: float, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        """A bar of `total` units, `done` of which were there before (a resumed run)."""
        ...


class _SilentTask:
    def advance(self, amount: float = 1, **fields: object) -> None:
        """Shows nothing."""


class Silent:
    """Progress that shows nothing."""

    def track(self, label: str, total: float, unit: str, done: float = 0) -> AbstractContextManager[Task]:
        return nullcontext(_SilentTask())


@dataclass
class StageContext:
    """What a stage may read and where it writes."""

    name: str
    directory: Path
    """The `.partial` directory. What a killed run left in it is still there."""
    inputs: Mapping[str, Artifact]
    seed: int
    """The stage's own seed: hash(recipe seed, stage name)."""
    threads: int = 1
    model: ModelConfig | None = None
    tokenizer: TokenizerConfig | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """The sources that the stage named, and those that they name."""
    progress: Progress = field(default_factory=Silent)
    trackers: TrackersConfig | None = None
    """Where training is logged besides the stage's own files."""
    counts: dict[str, Any] = field(default_factory=dict)
    """Numbers in and out, for the manifest. Data stages: in = kept + rejected by reason."""
