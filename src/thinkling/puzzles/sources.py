"""Recipe sources provided by puzzles: problems, pages of text, and conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from thinkling.errors import UserError
from thinkling.sources.base import SAMPLE, DocumentStream, Offer, Quality, Size, Source

if TYPE_CHECKING:
    from thinkling.data.conversations import Conversation
    from thinkling.tasks.problem import Problem, Split

NOISY_SUFFIX = "-noisy"


class PuzzlesSource(Source):
    """Problems with verifiable answers, generated on the fly and assigned to train or held-out by a hash."""

    type: Literal["puzzles"]
    families: dict[str, dict[str, Any]] = Field(min_length=1)
    """Puzzle family → difficulty knobs that differ from the defaults."""
    heldout_per_family: int = Field(default=100, ge=1)
    """Held-out problems per family; never trained on."""
    heldout_seed: int = Field(default=0, ge=0)
    """Seed of the held-out problems; independent of the recipe's seed, so that runs can be compared."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"problems", "conversations"})

    @field_validator("type", mode="before")
    @classmethod
    def _new_name(cls, value: Any) -> Any:
        """The entry point `tasks` also resolves here, so that recipes with the old name get a helpful error."""
        if value == "tasks":
            raise ValueError("'tasks' is now called 'puzzles'")
        return value

    @model_validator(mode="after")
    def _known_families(self) -> PuzzlesSource:
        from thinkling.puzzles.families import FAMILIES

        for family, knobs in self.families.items():
            if family not in FAMILIES:
                raise ValueError(f"families: unknown family {family!r}; use one of {', '.join(FAMILIES)}")
            try:
                FAMILIES[family].check(knobs)
            except UserError as error:
                raise ValueError(f"families: {error}") from error
        return self

    def verifiers(self) -> frozenset[str]:
        from thinkling.puzzles.families import FAMILIES

        return frozenset(FAMILIES[family].verifier for family in self.families)

    def tool_names(self) -> frozenset[str]:
        from thinkling.puzzles.families import FAMILIES

        return frozenset(tool for family in self.families if (tool := FAMILIES[family].tool))

    def problems(
        self, split: Split, n: int | None = None, seed: int = 0, families: Sequence[str] | None = None
    ) -> list[Problem]:
        """Distinct problems, family by family. `n` is split evenly; the first families get one more if it does not
        divide."""
        from thinkling.puzzles.problemset import generate, heldout

        chosen = {family: self.families[family] for family in self._chosen(families)}
        if split == "heldout":
            return heldout(chosen, self.heldout_per_family, self.heldout_seed)
        if n is None:
            raise UserError(f"sources.{self.name}: has no end; set the number of problems to use")
        each, rest = divmod(n, len(chosen))
        return generate(chosen, split, {f: each + (i < rest) for i, f in enumerate(chosen)}, seed)

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Each problem with its worked solution."""
        from thinkling.puzzles.conversations import worked

        return worked(self, self.problems("train", n, seed, families), seed)

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        if offer == "conversations":
            return conversations_size(self, n, families)
        if split != "heldout":
            return super().estimated_size(offer, split, n, families)
        from thinkling.puzzles.problemset import heldout

        few = min(self.heldout_per_family, 4)
        total = sum(len(p.question + p.answer) for p in heldout(self.families, few, self.heldout_seed))
        return Size(total * self.heldout_per_family / few, self.heldout_per_family * len(self.families))

    def _chosen(self, families: Sequence[str] | None) -> list[str]:
        for family in families or ():
            if family not in self.families:
                known = ", ".join(self.families)
                raise UserError(f"sources.{self.name}: unknown family {family!r}; use one of {known}")
        return list(families or self.families)


class PuzzleConversationsSource(Source):
    """Conversations made from puzzles: deliberately imperfect solutions, or refine roles."""

    type: Literal["puzzle_conversations"]
    puzzles: str
    """Name of a source of type `puzzles`, whose training problems are used."""
    answer_only_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of conversations that answer immediately, without reasoning."""
    noise_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the remaining conversations whose reasoning is noisy."""
    noise_strength: float = Field(default=0.15, gt=0, le=1)
    """Fraction of symbols replaced in noisy reasoning."""
    brief_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of conversations whose reasoning, if it is a chain, skips every second step."""
    roles: dict[Literal["checklist", "evaluate", "revise", "chain"], PositiveFloat] | None = Field(
        default=None, min_length=1
    )
    """Refine role → weight. Each problem then teaches one role, drawn by weight, instead of its solution."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"conversations"})

    @model_validator(mode="after")
    def _roles_or_solutions(self) -> PuzzleConversationsSource:
        if self.roles and (self.answer_only_fraction or self.noise_fraction or self.brief_fraction):
            raise ValueError(
                "roles: these conversations have no solution; remove answer_only_fraction, noise_fraction and "
                "brief_fraction"
            )
        return self

    def references(self) -> list[str]:
        return [self.puzzles]

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """One conversation per training problem."""
        from thinkling.puzzles.conversations import in_roles, worked

        puzzles = puzzles_of(self, self.puzzles)
        problems = puzzles.problems("train", n, seed, families)
        if self.roles:
            return in_roles(puzzles, problems, seed, self.roles)
        noise = (self.answer_only_fraction, self.noise_fraction, self.noise_strength)
        return worked(puzzles, problems, seed, *noise, brief_fraction=self.brief_fraction)

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        return conversations_size(self, n, families)


class PuzzlePagesSource(Source):
    """Puzzles and their solutions as pages of plain text, some noisy, some repeated, like web text."""

    type: Literal["puzzle_pages"]
    puzzles: str
    """Name of a source of type `puzzles`, whose training problems are written out."""
    pages_per_family: int = Field(ge=1)
    """Pages per family, including duplicates."""
    family_weights: dict[str, float] = Field(default_factory=dict)
    """Family → factor on `pages_per_family`, to provide more pages for what is hard to learn. Defaults to 1."""
    noise_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of pages with noisy reasoning and answer."""
    noise_strength: float = Field(default=0.25, gt=0, le=1)
    """Fraction of symbols replaced in a noisy page's reasoning and answer."""
    duplicate_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of pages that are exact copies of another page, for deduplication to find."""
    answer_only_fraction: float = Field(default=0.15, ge=0, le=1)
    """Fraction of pages with just the answer."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"documents"})

    @model_validator(mode="after")
    def _fractions_fit(self) -> PuzzlePagesSource:
        if self.noise_fraction + self.duplicate_fraction + self.answer_only_fraction > 1:
            raise ValueError("noise_fraction + duplicate_fraction + answer_only_fraction exceed 1; lower one of them")
        return self

    def references(self) -> list[str]:
        return [self.puzzles]

    def pages_of(self, family: str) -> int:
        """Number of pages of a family."""
        return round(self.pages_per_family * self.family_weights.get(family, 1.0))

    def document_names(self) -> list[str]:
        return [self.name, self.name + NOISY_SUFFIX]

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        """Two streams: sound pages, and noisy ones as `NAME-noisy`, which are always `mq`."""
        from thinkling.puzzles.corpus import pages

        written = list(pages(self, puzzles_of(self, self.puzzles), seed))
        sound = [page for page in written if not page.noisy]
        noisy = [page for page in written if page.noisy]
        streams = []
        if sound:
            streams.append(self._stream(self.name, quality, sound))
        if noisy:
            streams.append(self._stream(self.name + NOISY_SUFFIX, "mq", noisy))
        return streams

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        from thinkling.puzzles.pages import document

        total = records = 0.0
        puzzles = puzzles_of(self, self.puzzles)
        for family in puzzles.families:
            sample = puzzles.problems("train", min(SAMPLE, self.pages_of(family)), families=[family])
            pages = self.pages_of(family)
            total += pages * sum(len(document(problem)) for problem in sample) / max(len(sample), 1)
            records += pages
        return Size(total, records)

    def _stream(self, source: str, quality: Quality, written: Sequence[Any]) -> DocumentStream:
        from thinkling.data.readers import RawRecord
        from thinkling.puzzles.page_rules import PageTruth

        records = ([RawRecord({"id": page.key, "text": page.text}, f"{source}/{page.key}")] for page in written)
        truths = {page.key: PageTruth(page.problem) for page in written}
        n = len(written)
        return DocumentStream(self.name, source, quality, records, n, "pages", markup=True, truths=truths, n_records=n)


def conversations_size(source: Source, n: int | None, families: Sequence[str] | None) -> Size | None:
    """Size of `n` conversations, from a sample."""
    if n is None:
        return None
    sample = list(source.conversations(min(n, SAMPLE), 0, families))
    length = sum(len(json.dumps(one.messages, ensure_ascii=False).encode()) for one in sample) / len(sample)
    return Size(length * n, n)


def puzzles_of(source: Source, name: str) -> PuzzlesSource:
    """The referenced source of type `puzzles`. Raises UserError if it has another type."""
    found = source.other(name)
    if not isinstance(found, PuzzlesSource):
        raise UserError(f"sources.{source.name}.puzzles: {name!r} is of type {found.type}, not puzzles")
    return found
