"""The interface of a recipe's sources.

Each source type declares what it offers: text, problems, conversations, preference pairs or an artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, NoReturn, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, PrivateAttr

from thinkling.data.ledger import Ledger
from thinkling.data.truth import Matter, Truth
from thinkling.errors import UserError
from thinkling.plugins import Registry

if TYPE_CHECKING:
    from thinkling.data.artifact import Artifact
    from thinkling.data.conversations import Conversation, PreferencePair
    from thinkling.data.readers import RawRecord
    from thinkling.tasks.problem import Problem, Split


class Extra(NamedTuple):
    """Packages beyond thinkling's own dependencies that a recipe field requires."""

    field: str
    """Path of the field within its source or stage."""
    packages: tuple[str, ...]
    """Import names of the packages."""
    extra: str
    """The thinkling extra that installs the packages."""
    otherwise: str = ""
    """How to change the recipe so that the packages are not needed; empty if there is no way."""


SAMPLE = 16
"""Number of problems from which a source's size is estimated."""


class Size(NamedTuple):
    """The amount of data that a source offers, estimated without reading all the data."""

    bytes: float
    """Size in bytes of UTF-8, overestimated rather than underestimated. Counts the text of documents, the question and
    answer of problems, and the JSON of conversations and pairs."""
    records: float
    """Number of records."""


Offer = Literal["documents", "problems", "conversations", "pairs"]
Quality = Literal["hq", "mq"]

TYPES = Registry(
    "type of source",
    "thinkling.sources",
    {
        "text": "thinkling.sources.files:FilesSource",
        "jsonl": "thinkling.sources.files:FilesSource",
        "parquet": "thinkling.sources.files:FilesSource",
        "python_stdlib": "thinkling.sources.python_stdlib:StdlibSource",
        "model": "thinkling.sources.models:ModelSource",
        "tokens": "thinkling.sources.tokens:TokensSource",
        "conversations": "thinkling.sources.conversations:ConversationsSource",
        "problems": "thinkling.sources.problems:ProblemsSource",
        "reasoning_gym": "thinkling.sources.reasoning_gym:ReasoningGymSource",
    },
)
"""Maps the `type` of a source in a recipe to its class."""


@dataclass(frozen=True)
class DocumentStream:
    """A stream of raw records that are converted to documents with the same source name."""

    name: str
    """The source's name in the recipe."""
    source: str
    """The source name recorded in the documents, usually the same as `name`."""
    quality: Quality
    pieces: Iterable[Iterable[RawRecord]]
    n_pieces: int
    unit: str
    text_field: str = "text"
    markup: bool = False
    """Whether the text may contain special tokens, such as the tags of a tool call. Always False for external text."""
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Record id → ground truth about the record. Annotators may use the ground truth, but features must not."""
    n_records: float | None = None
    """Number of records, possibly an estimate, used to compute the remaining time; None if unknown."""


class Source(BaseModel):
    """An entry of a recipe's `sources`.

    A source type is a subclass that declares what it `offers` and implements the corresponding method for each offer. A
    source type is found through an entry point in the group `thinkling.sources`. Importing the module of a source type
    must not import torch, numpy or pyarrow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: str
    offers: ClassVar[frozenset[Offer]] = frozenset()
    artifact_kind: ClassVar[str | None] = None
    """Kind of artifact, `model` or `tokens`, if the source can be the input of a stage; otherwise None."""
    _name: str = PrivateAttr("?")
    _all: Mapping[str, Source] = PrivateAttr(default_factory=dict)
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)

    def bind(self, name: str, sources: Mapping[str, Source]) -> Self:
        """Sets the source's name and makes the recipe's other sources available to the source."""
        self._name, self._all = name, sources
        return self

    @property
    def name(self) -> str:
        """The source's name in the recipe."""
        return self._name

    def report_to(self, ledger: Ledger) -> None:
        """Sets the ledger that counts the source's records and stores rejected records."""
        self._ledger = ledger

    @property
    def ledger(self) -> Ledger:
        """The ledger that counts records of the user's files as kept or rejected. Every stage has its own ledger."""
        return self._ledger

    def other(self, name: str) -> Source:
        """Returns the recipe's source with this name, which exists because recipes are validated."""
        return self._all[name]

    def references(self) -> list[str]:
        """Returns the names of the sources from which this source is built."""
        return []

    def digests(self) -> dict[str, Any]:
        """Returns everything outside the recipe that determines the source's content.

        Typical entries are the SHA-256 of each file, and package versions. The result is part of stage hashes.
        Raises UserError if a file is missing or cannot be read.
        """
        return {}

    def extras(self) -> list[Extra]:
        """Returns the packages that the source needs beyond thinkling's own dependencies."""
        return []

    def document_names(self) -> list[str]:
        """Returns the names of the source's documents in mixtures, without the quality suffix."""
        return [self.name]

    def provenance(self) -> dict[str, Any]:
        """Returns the provenance to store with the source's documents, if any."""
        return {}

    def summary(self) -> str | None:
        """Returns one line for `doctor`, such as `12 files`, or None if the source has no data on this machine.

        Raises UserError if a file or package is missing.
        """
        return None

    def verifiers(self) -> frozenset[str]:
        """Returns the names of the verifiers of the source's problems, without generating any problem."""
        return frozenset()

    def tool_names(self) -> frozenset[str]:
        """Returns the names of the tools that the source's problems may call, without generating any problem."""
        return frozenset()

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        """Checks, before any stage runs, that the source can provide what a stage will request.

        For problems, a stage requests `n` problems of the given split and `families`.
        Raises UserError if the source cannot provide them.
        """

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        """Returns the source's text as one stream per name and quality."""
        self._lacks("documents")

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """Returns `n` distinct problems of a split (all if None), drawn evenly from the families, in a fixed order.

        Held-out problems depend on neither `n` nor `seed`, so that runs can be compared.
        Raises UserError if there are fewer than `n` problems, or if one of the `families` does not exist.
        """
        self._lacks("problems")

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Yields `n` training conversations (all if None)."""
        self._lacks("conversations")

    def pairs(self, n: int | None, seed: int) -> Iterator[PreferencePair]:
        """Yields `n` preference pairs (all if None)."""
        self._lacks("pairs")

    def first(self) -> Iterator[Conversation]:
        """Yields the user's conversations in order, for inspection, without counting them in the ledger."""
        return iter(())

    def directory(self) -> Path:
        """Returns the model's directory if `artifact_kind` is `model`, without computing any digest."""
        raise AssertionError(f"{type(self).__name__} has no directory")

    def artifact(self) -> Artifact:
        """Returns the source as an artifact that can be the input of a stage, if it has an `artifact_kind`."""
        raise AssertionError(f"{type(self).__name__} has no artifact")

    def size_in_tokens(self) -> float | None:
        """Returns the source's size in tokens as declared in the recipe, for use in plans; None if the recipe declares
        no size."""
        return None

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        """Returns the size of the offered data, or of `n` of its records, for the estimate of a run's disk space.

        Returns None if the size cannot be determined; the disk space is then printed with "at least".
        """
        return None if offer != "problems" else self._problems_size(split or "train", n, families)

    def _problems_size(self, split: Split, n: int | None, families: Sequence[str] | None) -> Size:
        found = self.problems(split, None if n is None else min(n, SAMPLE), 0, families)
        total = sum(len((p.question + p.answer).encode()) for p in found[:SAMPLE])
        number = len(found) if n is None else n
        return Size(total * number / max(len(found[:SAMPLE]), 1), number)

    def _lacks(self, offer: Offer) -> NoReturn:
        raise UserError(f"sources.{self.name}: {lacks(self, offer)}")


def is_source(value: object) -> TypeGuard[Source]:
    """Returns whether an entry of a recipe's `sources` has already been parsed into a source."""
    return isinstance(value, Source)


def bound(sources: Mapping[str, Source]) -> dict[str, Source]:
    """Returns the sources of a recipe, each bound to its name and to the other sources."""
    return {name: source.bind(name, sources) for name, source in sources.items()}


def lacks(source: Source, offer: str) -> str:
    """Returns the error text for a source that does not offer the requested kind of data."""
    offered = " and ".join(sorted(source.offers)) or source.artifact_kind or "nothing"
    return f"a source of type {source.type} offers {offered}, not {offer}"
