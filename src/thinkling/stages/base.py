"""The interface of a stage: a configuration free of heavy imports, and the context it receives from the runner."""

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
"""Directories in a run that are not artifacts: answers from served models, and reusable parts of stages."""


class Need(NamedTuple):
    """A source that a stage reads: the field that names it and what the source must offer."""

    field: str
    source: str
    offer: Offer
    split: Split | None = None
    """For problems: which split is read."""
    n: int | None = None
    """Number of items to read; all if None."""
    families: Sequence[str] | None = None
    """Families to read; all if None."""


class StageConfig(BaseModel):
    """Fields shared by all stages. Unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str
    inputs: dict[str, str] = Field(default_factory=dict)
    """Role → name of an earlier stage or of a source of type `model`."""

    output_version: ClassVar[int] = 1
    """Increased by hand whenever the same configuration starts to produce different bytes."""
    roles: ClassVar[Mapping[str, str]] = {}
    """Role → expected kind of artifact: documents, tokens, model, scores. Roles ending in `?` are optional."""
    produces: ClassVar[str] = ""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Top-level sections of the recipe that the stage reads: `model`, `tokenizer`."""
    uses_torch: ClassVar[bool] = False
    """Whether the stage computes with torch, in which case the runner sets the number of threads."""
    distributed: ClassVar[bool] = False
    """Whether all ranks of a torchrun take part; otherwise rank 0 works and the others wait."""

    @property
    def depends_on_threads(self) -> bool:
        """Whether the bits of the result depend on the number of threads; if so, that number is hashed."""
        return self.uses_torch

    @property
    def products(self) -> frozenset[str]:
        """Input kinds that the stage's artifact satisfies."""
        return frozenset({self.produces})

    def needs(self) -> list[Need]:
        """Sources of the recipe that the stage itself reads."""
        return []

    def source_names(self) -> list[str]:
        """Names of these sources, without duplicates."""
        return list(dict.fromkeys(need.source for need in self.needs()))

    def extras(self) -> list[Extra]:
        """Packages required beyond thinkling's own dependencies."""
        return []

    def judges(self) -> list[str]:
        """Problem sources whose verifiers judge model answers in this stage."""
        return []

    def calls(self) -> list[str]:
        """Problem sources whose tools may be called by a model in this stage."""
        return []

    def digested_paths(self) -> dict[str, Path]:
        """Field → directory outside the run that the stage reads; the digest of its files is hashed too."""
        return {}


@dataclass
class StageContext:
    """What a stage can read, and where it writes."""

    name: str
    directory: Path
    """The `.partial` directory. It still contains whatever a killed run left there."""
    inputs: Mapping[str, Artifact]
    seed: int
    """The stage's own seed: hash(recipe seed, stage name)."""
    threads: int = 1
    model: ModelConfig | None = None
    tokenizer: TokenizerConfig | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """The sources named by the stage, and any sources that those name in turn."""
    progress: Progress = field(default_factory=Silent)
    kept: Path | None = None
    """Directory of the run for data that outlives the stage's artifact, such as paid-for answers; if None, the stage's
    own directory is used."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """Everything besides the inputs that determines the result; this is what gets hashed."""
    trackers: TrackersConfig | None = None
    """Where training is logged in addition to the stage's own files."""
    counts: dict[str, Any] = field(default_factory=dict)
    """Record counts for the manifest. Data stages: in = kept + rejected by reason."""
    ledger: Ledger = field(init=False)
    """Kept and rejected records of the sources; the counts go into the manifest as `sources`."""

    @property
    def answers(self) -> Path:
        """Directory for answers from served models."""
        return (self.kept or self.directory) / ANSWERS

    def __post_init__(self) -> None:
        first_rank = int(os.environ.get("RANK", "0")) == 0
        self.ledger = Ledger(self.directory / FILE if first_rank else None)
        for source in self.sources.values():
            source.report_to(self.ledger)
