"""The interface of a stage: a configuration that needs no heavy imports, and the context that the stage receives from
the runner."""

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
"""Directories in a run that are not artifacts: one for answers from served models, and one for reusable parts of
stages."""


class Need(NamedTuple):
    """A source that a stage reads: the configuration field that refers to the source, and what the source must
    provide."""

    field: str
    source: str
    offer: Offer
    split: Split | None = None
    """Split that is read. Used only for problems."""
    n: int | None = None
    """Number of items to read. If None, all items are read."""
    families: Sequence[str] | None = None
    """Families to read. If None, all families are read."""


class StageConfig(BaseModel):
    """Fields shared by all stages. Unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str
    inputs: dict[str, str] = Field(default_factory=dict)
    """Role → name of an earlier stage, or of a source of type `model`."""

    output_version: ClassVar[int] = 1
    """Version of the stage's output. Increased by hand whenever the same configuration starts to produce different
    bytes."""
    roles: ClassVar[Mapping[str, str]] = {}
    """Role → kind of artifact that the role requires: documents, tokens, model, scores. Roles ending in `?` are
    optional."""
    produces: ClassVar[str] = ""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Top-level sections of the recipe that the stage reads: `model`, `tokenizer` or both."""
    uses_torch: ClassVar[bool] = False
    """Whether the stage computes with torch. If True, the runner sets torch's number of threads."""
    not_hashed: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not part of the stage's hash, because they describe how a machine is used. They change the result
    by rounding at most, as the number of processes does."""
    distributed: ClassVar[bool] = False
    """Whether all ranks started by torchrun run the stage. If False, rank 0 runs the stage and all other ranks wait for
    it."""

    @property
    def depends_on_threads(self) -> bool:
        """Whether a different number of threads can change the bits of the result. If True, the number of threads is
        part of the stage's hash."""
        return self.uses_torch

    @property
    def products(self) -> frozenset[str]:
        """Kinds of artifact that the stage's artifact can provide to a later stage, such as tokens or model."""
        return frozenset({self.produces})

    def needs(self) -> list[Need]:
        """Returns the sources that the stage itself reads."""
        return []

    def source_names(self) -> list[str]:
        """Returns the names of the sources in `needs`, without duplicates."""
        return list(dict.fromkeys(need.source for need in self.needs()))

    def extras(self) -> list[Extra]:
        """Returns the packages that the stage requires in addition to thinkling's own dependencies."""
        return []

    def judges(self) -> list[str]:
        """Returns the names of the problem sources whose verifiers judge a model's answers in this stage."""
        return []

    def calls(self) -> list[str]:
        """Returns the names of the problem sources whose tools a model can call in this stage."""
        return []

    def digested_paths(self) -> dict[str, Path]:
        """Returns a mapping from configuration field to the directory outside the run that the stage reads. The digest
        of the files in the directory is part of the stage's hash."""
        return {}


@dataclass
class StageContext:
    """Everything that a stage can read, and the directory to which it writes."""

    name: str
    directory: Path
    """The `.partial` directory of the stage. If an earlier run was killed, it still contains the files of that run."""
    inputs: Mapping[str, Artifact]
    seed: int
    """The stage's own seed: hash(recipe seed, stage name)."""
    threads: int = 1
    model: ModelConfig | None = None
    tokenizer: TokenizerConfig | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """The sources that the stage uses, and the sources that these sources use in turn."""
    progress: Progress = field(default_factory=Silent)
    kept: Path | None = None
    """Directory in the run for data that outlives the stage's artifact, such as paid answers of served models. If None,
    this data is stored in the stage's own directory."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """Everything that determines the stage's result, except for its inputs. This mapping is part of the stage's
    hash."""
    trackers: TrackersConfig | None = None
    """Trackers to which training is logged in addition to the stage's own files."""
    counts: dict[str, Any] = field(default_factory=dict)
    """Record counts for the manifest. In data stages, `in` equals `kept` plus all records in `rejected`, which are
    counted by reason."""
    ledger: Ledger = field(init=False)
    """Ledger of the kept and rejected records of the sources. The counts are written to the manifest as `sources`."""

    @property
    def answers(self) -> Path:
        """Directory for answers from served models."""
        return (self.kept or self.directory) / ANSWERS

    def __post_init__(self) -> None:
        first_rank = int(os.environ.get("RANK", "0")) == 0
        self.ledger = Ledger(self.directory / FILE if first_rank else None)
        for source in self.sources.values():
            source.report_to(self.ledger)
