"""Configuration of the refine stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinkling.stages.base import StageConfig

INPUTS = ("refiner", "student", "teacher")


class BackendConfig(BaseModel):
    """A model that plays a role: one of the stage's inputs, or one behind a server with OpenAI's chat completions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: Literal["refiner", "student", "teacher"] | None = None
    """Role in `inputs` whose model is taken."""
    url: str | None = None
    """Base address of a server, as `http://127.0.0.1:8000/v1`."""
    model: str | None = None
    """The served model's name."""
    key_variable: str | None = None
    """Environment variable that holds the server's key. The key itself is written nowhere."""
    concurrency: int = Field(default=8, ge=1)
    """Requests under way at once."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds until a request is given up and asked again."""
    temperature: float = Field(default=0.0, ge=0)
    """0: the likeliest token."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_new_tokens: int = Field(default=96, ge=1)

    @model_validator(mode="after")
    def _local_or_served(self) -> BackendConfig:
        if (self.input is None) == (self.url is None):
            raise ValueError("give input, or url and model")
        if self.url is not None and self.model is None:
            raise ValueError("model: missing; the server must be told which")
        return self


class ProblemsConfig(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source of type `tasks`."""
    problems_per_family: int = Field(ge=1)
    """Distinct training problems a family; each is one job."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them where not set. Those with a tool have no roles in symbols."""


class RefineConfig(StageConfig):
    """Solution refinement and chain reconstruction (RECIPE.md §4)."""

    kind: Literal["refine"]
    problems: ProblemsConfig
    drafters: list[BackendConfig] = Field(min_length=1)
    """Teacher(s) and the current model; jobs take them in turn."""
    checklist: BackendConfig
    """Writes what a solution of this one instruction must meet, from the instruction alone."""
    evaluators: list[BackendConfig] = Field(min_length=1)
    """Each judges every item; an item is met where all of them say so."""
    reviser: BackendConfig
    """Rewrites a solution after the critique that found most fault with it."""
    chain: BackendConfig
    """Chain completion: prompt and final solution → summary of the reasoning, then the chain that leads there."""
    style: Literal["words", "symbols"] = "words"
    """How the roles are asked and answer: in words (stages/refine/words.py), or in the short forms of
    puzzles/refinement.py that a model of 0.3M parameters learns."""
    corrupted: float = Field(default=0.0, ge=0, le=1)
    """Share of drafts that are damaged in their own text, so that there is something to refine. Seen by no role."""
    corrupted_characters: float = Field(default=0.2, gt=0, le=1)
    """Share of a damaged draft's digits, capitals and operators that are replaced."""
    rounds: int = Field(default=3, ge=0)
    """Revisions a job at most."""
    patience: int = Field(default=2, ge=1)
    """A job ends after so many revisions in a row that met no more items than the best before."""
    keep: Literal["checklist", "verified", "any"] = "checklist"
    """`checklist`: solutions that meet all items; `verified`: those of them that the problem's verifier finds right
    (reads the reference; never shown to a role); `any`: also the best of jobs that ended otherwise."""
    checklist_version: int = Field(default=1, ge=1)
    """Part of a job's key: raised where the wording of checklists changes."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences decoded at once by a local model."""
    chunk: int = Field(default=512, ge=1)
    """Jobs that go through a phase together; a finished phase of a chunk survives a kill."""

    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "conversations"
    roles: ClassVar[Mapping[str, str]] = {f"{name}?": "model" for name in INPUTS}

    @property
    def backends(self) -> dict[str, BackendConfig]:
        """Every backend by the field that names it."""
        several = {"drafters": self.drafters, "evaluators": self.evaluators}
        named = {f"{field}.{i}": backend for field, backends in several.items() for i, backend in enumerate(backends)}
        return {**named, "checklist": self.checklist, "reviser": self.reviser, "chain": self.chain}

    @model_validator(mode="after")
    def _inputs_are_there(self) -> RefineConfig:
        for field, backend in self.backends.items():
            if backend.input is not None and backend.input not in self.inputs:
                raise ValueError(f"{field}.input: {backend.input!r} is not in inputs; name a stage there")
        return self

    def source_names(self) -> list[str]:
        return [self.problems.source]

    def without_answers_to(self, sources: Collection[str]) -> tuple[Self | None, list[str]]:
        """None where it refines such problems: its audit judges every solution."""
        return (None if self.problems.source in sources else self), []
