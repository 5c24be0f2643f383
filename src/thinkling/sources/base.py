"""The interface of a recipe's sources. A type declares what it offers: text, problems, conversations or an artifact."""

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
    """The field, within its source or stage."""
    packages: tuple[str, ...]
    """Their import names."""
    extra: str
    """The thinkling extra that installs them."""
    otherwise: str = ""
    """How to avoid needing them, if possible."""


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
    """Raw records that become documents under one name. Progress is counted in pieces."""

    name: str
    """The source's name in the recipe."""
    source: str
    """The name recorded in its documents: usually the same."""
    quality: Quality
    pieces: Iterable[Iterable[RawRecord]]
    n_pieces: int
    unit: str
    text_field: str = "text"
    markup: bool = False
    """Whether the text may contain special tokens, such as the tags of a tool call. External text never may."""
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Record id → what the source knows about the record: for annotators, never for features."""


class Source(BaseModel):
    """An entry of a recipe's `sources`.

    A source type is a subclass that declares what it `offers` and implements the method of each offer. It is found by
    its entry point in the group `thinkling.sources`. Importing its module must not load torch, numpy or pyarrow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: str
    offers: ClassVar[frozenset[Offer]] = frozenset()
    artifact_kind: ClassVar[str | None] = None
    """`model` or `tokens` if the source can be the input of a stage."""
    _name: str = PrivateAttr("?")
    _all: Mapping[str, Source] = PrivateAttr(default_factory=dict)
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)

    def bind(self, name: str, sources: Mapping[str, Source]) -> Self:
        """Sets the source's name and the recipe's other sources."""
        self._name, self._all = name, sources
        return self

    @property
    def name(self) -> str:
        """The source's name in the recipe."""
        return self._name

    def report_to(self, ledger: Ledger) -> None:
        """Sets the ledger that counts the records the source reads and stores those it rejects."""
        self._ledger = ledger

    @property
    def ledger(self) -> Ledger:
        """Counts records of the user's files as kept or rejected; every stage has its own."""
        return self._ledger

    def other(self, name: str) -> Source:
        """The recipe's source of that name. Recipes are validated, so it exists."""
        return self._all[name]

    def references(self) -> list[str]:
        """Names of the sources that this one is built from."""
        return []

    def digests(self) -> dict[str, Any]:
        """Everything outside the recipe that determines the content: file → SHA-256, versions. Part of stage hashes.

        Raises UserError if a file is missing or cannot be read.
        """
        return {}

    def extras(self) -> list[Extra]:
        """Packages it needs beyond thinkling's own dependencies."""
        return []

    def document_names(self) -> list[str]:
        """Names of its documents in mixtures, without the quality suffix."""
        return [self.name]

    def provenance(self) -> dict[str, Any]:
        """Provenance to store with its documents, if any."""
        return {}

    def summary(self) -> str | None:
        """One line for `doctor`, such as `12 files`; None if the source has no data on this machine.

        Raises UserError if something is missing.
        """
        return None

    def verifiers(self) -> frozenset[str]:
        """Names of its problems' verifiers, known before any problem is generated."""
        return frozenset()

    def tool_names(self) -> frozenset[str]:
        """Names of the tools that its problems may call, known before any problem is generated."""
        return frozenset()

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        """Checks, before any stage runs, that the source can provide what a stage will request: for problems, `n` of
        the given split and `families`. Raises UserError if it cannot."""

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        """Its text, one stream per name and quality."""
        self._lacks("documents")

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """`n` distinct problems of a split (all if None), drawn evenly over the families, in a fixed order.

        Held-out problems do not depend on `n` and `seed`, so that runs can be compared.
        Raises UserError if there are fewer, or if one of the `families` does not exist.
        """
        self._lacks("problems")

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Training conversations, `n` in total (all if None)."""
        self._lacks("conversations")

    def pairs(self, n: int | None, seed: int) -> Iterator[PreferencePair]:
        """Preference pairs, `n` in total (all if None)."""
        self._lacks("pairs")

    def first(self) -> Iterator[Conversation]:
        """The user's conversations in order, for inspection: nothing is counted."""
        return iter(())

    def directory(self) -> Path:
        """The model's directory, if `artifact_kind` is `model`; nothing is digested."""
        raise AssertionError(f"{type(self).__name__} has no directory")

    def artifact(self) -> Artifact:
        """The source as the input of a stage, if it has an `artifact_kind`."""
        raise AssertionError(f"{type(self).__name__} has no artifact")

    def size_in_tokens(self) -> float | None:
        """Size declared in the recipe, for plans."""
        return None

    def _lacks(self, offer: Offer) -> NoReturn:
        raise UserError(f"sources.{self.name}: {lacks(self, offer)}")


def is_source(value: object) -> TypeGuard[Source]:
    """Whether an entry of a recipe's `sources` has already been parsed into a source."""
    return isinstance(value, Source)


def bound(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources of a recipe, each bound to its name and to the others."""
    return {name: source.bind(name, sources) for name, source in sources.items()}


def lacks(source: Source, offer: str) -> str:
    """Error text for a source that does not offer something."""
    offered = " and ".join(sorted(source.offers)) or source.artifact_kind or "nothing"
    return f"type {source.type} offers {offered}, not {offer}"
