"""Where raw material comes from: the `sources` of a recipe."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.errors import UserError

if TYPE_CHECKING:
    from thinkling.tasks.problem import Problem


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def references(self) -> list[str]:
        """Names of other sources that this one is made from."""
        return []


class StdlibSource(_Source):
    """Text that every Python brings along: offline, versioned, free to use."""

    type: Literal["python_stdlib"]
    part: Literal["code", "docstrings", "topics"]
    """`code`: the `.py` files under sysconfig's stdlib path, without tests and site-packages; `docstrings`: the
    docstrings in them; `topics`: the language reference in pydoc_data.topics."""


class FilesSource(_Source):
    """The user's own text."""

    type: Literal["text", "jsonl", "parquet"]
    paths: list[str] = Field(min_length=1)
    """Files or glob patterns, relative to the working directory. Each file of type `text` is a document."""
    text_field: str = "text"
    """Column (Parquet) or key (JSONL) that holds the text."""

    def files(self) -> list[Path]:
        """The files that the patterns name, each once, sorted within a pattern.

        Raises UserError if a pattern fits no file.
        """
        found: dict[Path, None] = {}
        for pattern in self.paths:
            matches = sorted(p for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file())
            if not matches:
                raise UserError(f"{pattern}: no such file")
            found |= dict.fromkeys(matches)
        return list(found)


class TasksSource(_Source):
    """Problems with verifiable answers, made on the fly; split into train and held out by a hash of the problem."""

    type: Literal["tasks"]
    families: dict[str, dict[str, Any]] = Field(min_length=1)
    """Family of puzzles → difficulty knobs that differ from its defaults."""
    heldout_per_family: int = Field(default=100, ge=1)
    """Problems a family that are only ever evaluated on."""
    heldout_seed: int = Field(default=0, ge=0)
    """Seed of the held-out problems: the same ones for every seed of the recipe, so that runs can be compared."""

    def heldout(self) -> list[Problem]:
        """The held-out problems, family after family.

        Raises UserError for an unknown family or knob, or where the knobs do not give so many distinct problems.
        """
        from thinkling.puzzles.problemset import heldout

        return heldout(self.families, self.heldout_per_family, self.heldout_seed)


class PagesSource(_Source):
    """Puzzle pages in document form."""

    type: Literal["puzzle_pages"]
    tasks: str
    """Name of the source of type `tasks` whose training problems are written out."""
    pages_per_family: int = Field(ge=1)
    family_weights: dict[str, float] = Field(default_factory=dict)
    """Family → factor on `pages_per_family`: what is hard to learn may have more pages. 1 where not named."""
    corrupted: float = Field(default=0.0, ge=0, le=1)
    """Share of pages whose trace and answer were damaged."""
    corrupted_characters: float = Field(default=0.25, gt=0, le=1)
    """Share of the characters of a damaged page's trace and answer that are replaced (feasibility.md §7: 25%)."""
    duplicated: float = Field(default=0.0, ge=0, le=1)
    """Pages repeated word for word, as a share of all: what dedup is there for."""
    without_trace: float = Field(default=0.15, ge=0, le=1)
    """Share of pages that give the answer alone (feasibility.md §7: 15%)."""

    @model_validator(mode="after")
    def _shares_fit(self) -> PagesSource:
        if self.corrupted + self.duplicated + self.without_trace > 1:
            raise ValueError("corrupted + duplicated + without_trace exceed 1; lower one of them")
        return self

    def references(self) -> list[str]:
        return [self.tasks]

    def pages_of(self, family: str) -> int:
        """Pages of a family."""
        return round(self.pages_per_family * self.family_weights.get(family, 1.0))


class ModelSource(_Source):
    """A Hugging Face model directory to start from."""

    type: Literal["model"]
    path: str


class TokensSource(_Source):
    """Shards that another system made, or whose size alone is known: enough for a plan."""

    type: Literal["tokens"]
    tokens: float = Field(gt=0)
    """Size in tokens."""
    path: str | None = None
    """Directory of the shards; without it the recipe can be planned but not run."""


Source = Annotated[
    StdlibSource | FilesSource | TasksSource | PagesSource | ModelSource | TokensSource,
    Field(discriminator="type"),
]
