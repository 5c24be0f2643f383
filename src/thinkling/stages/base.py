"""What every stage has: a configuration without heavy imports, and the context that the runner hands to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from thinkling.data.ledger import FILE, Ledger
from thinkling.model.config import ModelConfig
from thinkling.progress import Progress, Silent
from thinkling.sources.base import Extra, Offer, Source
from thinkling.tasks.problem import Split

if TYPE_CHECKING:
    from thinkling.data.artifact import Artifact
    from thinkling.data.tokenizer_config import TokenizerConfig
    from thinkling.stages.training.config import TrackersConfig


ANSWERS, PARTS = "answers", "parts"
"""Directories in a run that are not artifacts: answers of served models, and parts of stages that are reused."""


class Need(NamedTuple):
    """A source that a stage reads: the field that names it, and what it must offer."""

    field: str
    source: str
    offer: Offer
    split: Split | None = None
    """Of problems: the split that is taken."""
    n: int | None = None
    """How many are taken; all if None."""
    families: Sequence[str] | None = None
    """The families that are taken; all if None."""


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

    def needs(self) -> list[Need]:
        """The sources of the recipe that the stage reads itself."""
        return []

    def source_names(self) -> list[str]:
        """Their names, each once."""
        return list(dict.fromkeys(need.source for need in self.needs()))

    def extras(self) -> list[Extra]:
        """Packages that it needs beside thinkling's own dependencies."""
        return []

    def judges(self) -> list[str]:
        """Sources of problems whose verifiers judge a model's answers in this stage."""
        return []

    def calls(self) -> list[str]:
        """Sources of problems whose tools a model may call in this stage."""
        return []

    def digested_paths(self) -> dict[str, Path]:
        """Field → directory outside the run that the stage reads: the digest of its files decides the result too."""
        return {}


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
    kept: Path | None = None
    """Directory of the run for what outlives a stage's artifact, such as answers that were paid for; the stage's own
    directory where None."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """All that the result depends on besides inputs: what is hashed."""
    trackers: TrackersConfig | None = None
    """Where training is logged besides the stage's own files."""
    counts: dict[str, Any] = field(default_factory=dict)
    """Numbers in and out, for the manifest. Data stages: in = kept + rejected by reason."""
    ledger: Ledger = field(init=False)
    """Records of the sources, kept and rejected; its counts go into the manifest as `sources`."""

    @property
    def answers(self) -> Path:
        """Directory of the answers of served models."""
        return (self.kept or self.directory) / ANSWERS

    def __post_init__(self) -> None:
        first_rank = int(os.environ.get("RANK", "0")) == 0
        self.ledger = Ledger(self.directory / FILE if first_rank else None)
        for source in self.sources.values():
            source.report_to(self.ledger)
