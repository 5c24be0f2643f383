"""What every source of a recipe has. A type offers text, problems, conversations or an artifact, and says which."""

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
    """Packages beside thinkling's own dependencies that a field of a recipe makes necessary."""

    field: str
    """The field, within its source or stage."""
    packages: tuple[str, ...]
    """Names by which they are imported."""
    extra: str
    """The extra of thinkling that installs them."""
    otherwise: str = ""
    """How to do without, if one can."""


SAMPLE = 16
"""Problems that sizes are estimated from."""


class Size(NamedTuple):
    """How much a source offers, estimated without reading all of it."""

    bytes: float
    """Bytes of UTF-8, rather too many than too few: of a document's text, of a problem's question and answer, of a
    conversation or pair as JSON."""
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
"""`type` of a source in a recipe → its class."""


@dataclass(frozen=True)
class DocumentStream:
    """Raw records that become documents under one name."""

    name: str
    """The recipe's name of the source."""
    source: str
    """The name that its documents bear: usually the same."""
    quality: Quality
    pieces: Iterable[Iterable[RawRecord]]
    n_pieces: int
    unit: str
    text_field: str = "text"
    markup: bool = False
    """Whether the text may hold special tokens, such as a tool call's tags. Text from outside never may."""
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Id of a record → what the source knows about it: for annotators, never for features."""
    n_records: float | None = None
    """Number of records, which may be an estimate, for the time left; None if not known."""


class Source(BaseModel):
    """An entry of a recipe's `sources`.

    A type of source is a subclass: it names what it `offers` and implements the method of each offer. It is found by
    its entry point in the group `thinkling.sources`. Importing its module must load no torch, numpy or pyarrow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: str
    offers: ClassVar[frozenset[Offer]] = frozenset()
    artifact_kind: ClassVar[str | None] = None
    """`model` or `tokens` if the source can stand for a stage's input."""
    _name: str = PrivateAttr("?")
    _all: Mapping[str, Source] = PrivateAttr(default_factory=dict)
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)

    def bind(self, name: str, sources: Mapping[str, Source]) -> Self:
        """Tells the source its name and its neighbours in the recipe."""
        self._name, self._all = name, sources
        return self

    @property
    def name(self) -> str:
        """The recipe's name of the source."""
        return self._name

    def report_to(self, ledger: Ledger) -> None:
        """Tells the source where to count the records that it reads, and to put those that it rejects."""
        self._ledger = ledger

    @property
    def ledger(self) -> Ledger:
        """Where records of the user's files are counted as kept or rejected; a stage has its own."""
        return self._ledger

    def other(self, name: str) -> Source:
        """The neighbour of that name. A recipe is refused if it is not there."""
        return self._all[name]

    def references(self) -> list[str]:
        """Names of the sources that this one is made from."""
        return []

    def digests(self) -> dict[str, Any]:
        """What outside the recipe decides the content: file → SHA-256, versions. Hashed into the stages that read it.

        Raises UserError if a file is not there or cannot be read.
        """
        return {}

    def extras(self) -> list[Extra]:
        """Packages that it needs beside thinkling's own dependencies."""
        return []

    def document_names(self) -> list[str]:
        """Names under which its documents are found in mixtures, without their quality."""
        return [self.name]

    def provenance(self) -> dict[str, Any]:
        """What is written beside documents about where they come from, if anything."""
        return {}

    def summary(self) -> str | None:
        """One line for `doctor`, such as `12 files`; None if nothing of it is on this machine.

        Raises UserError if something is missing.
        """
        return None

    def verifiers(self) -> frozenset[str]:
        """Names of the verifiers of its problems. They are known before any problem is made."""
        return frozenset()

    def tool_names(self) -> frozenset[str]:
        """Names of the tools that its problems may call. They are known before any problem is made."""
        return frozenset()

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        """Looks, before any stage runs, whether the source can give what a stage will ask of it: for problems a split,
        `n` of them, and `families`. Raises UserError if it cannot."""

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        """Its text, one stream per name and quality."""
        self._lacks("documents")

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """`n` distinct problems of a split, drawn evenly over the families (all it has if None), in a fixed order.

        Held-out problems do not depend on `n` and `seed`, so that runs can be compared.
        Raises UserError if it has fewer, or lacks one of the `families`.
        """
        self._lacks("problems")

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Training conversations, `n` in all (all it has if None)."""
        self._lacks("conversations")

    def pairs(self, n: int | None, seed: int) -> Iterator[PreferencePair]:
        """Preference pairs, `n` in all (all it has if None)."""
        self._lacks("pairs")

    def first(self) -> Iterator[Conversation]:
        """Conversations of the user's in their order, for a look at them: nothing is counted."""
        return iter(())

    def directory(self) -> Path:
        """Where the model is, if its `artifact_kind` is `model`; nothing is digested."""
        raise AssertionError(f"{type(self).__name__} has no directory")

    def artifact(self) -> Artifact:
        """The source as a stage's input, if it has an `artifact_kind`."""
        raise AssertionError(f"{type(self).__name__} has no artifact")

    def size_in_tokens(self) -> float | None:
        """Size as the recipe declares it, for plans."""
        return None

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        """Size of what the source offers, or of `n` records of it, from which a run's disk space is estimated.

        None where it cannot be known; the estimate then says "at least".
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
    """Whether an entry of a recipe's `sources` is a source already, not the fields of one."""
    return isinstance(value, Source)


def bound(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources of a recipe, each told its name and the others."""
    return {name: source.bind(name, sources) for name, source in sources.items()}


def lacks(source: Source, offer: str) -> str:
    """What to say of a source that does not offer something."""
    offered = " and ".join(sorted(source.offers)) or source.artifact_kind or "nothing"
    return f"type {source.type} offers {offered}, not {offer}"
