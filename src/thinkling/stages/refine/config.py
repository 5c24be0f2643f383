"""Configuration of the refine stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from thinkling.errors import UserError
from thinkling.generate.config import ChatConfig, ServerConfig
from thinkling.plugins import Registry
from thinkling.stages.base import Need
from thinkling.stages.chat import ChattingConfig
from thinkling.stages.problems import ProblemsConfig
from thinkling.stages.sampling import SamplingConfig

if TYPE_CHECKING:
    from thinkling.stages.refine.style import Style

STYLES = Registry("style of refine", "thinkling.refine_styles", {"words": "thinkling.stages.refine.words:Words"})
INPUTS = ("refiner", "student", "teacher")


class BackendConfig(SamplingConfig, ServerConfig):
    """The model behind a role: one of the stage's inputs, or a server with the OpenAI chat completions API."""

    input: Literal["refiner", "student", "teacher"] | None = None
    """Role in `inputs` of the model to use."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy decoding."""
    chat: ChatConfig = Field(default_factory=ChatConfig)
    """Chat template of the `input` model; a server applies its own."""

    @model_validator(mode="after")
    def _local_or_served(self) -> BackendConfig:
        if (self.input is None) == (self.url is None):
            raise ValueError("set either input, or url and model (both at once: field={url: …, model: …})")
        if self.url is not None and self.model is None:
            raise ValueError("model: missing; set the name of the served model")
        if self.url is not None and self.chat != ChatConfig():
            raise ValueError("chat: the server behind url has its own chat template; remove it")
        for name in ("temperature", "top_p"):
            if name in self.omit and name in self.model_fields_set:
                raise ValueError(f"{name}: listed in omit, so it would not be sent; remove one of the two")
        return self

    @property
    def identity(self) -> str:
        """Backends with the same identity share a model."""
        if self.input is not None:
            return f"{self.input} {self.chat.model_dump_json()}"
        return repr([(name, getattr(self, name)) for name in ServerConfig.model_fields])


class RefineConfig(ChattingConfig):
    """Solution refinement and chain reconstruction (docs/recipe.md, Refinement)."""

    kind: Literal["refine"]
    problems: ProblemsConfig
    """Problems to solve; each problem is one job."""
    drafters: list[BackendConfig] = Field(min_length=1)
    """Models that write drafts, such as teachers and the current model; jobs are assigned to them in turn."""
    checklist: BackendConfig
    """Writes the checklist that a solution of this particular problem must meet, from the problem statement alone."""
    evaluators: list[BackendConfig] = Field(min_length=1)
    """Each evaluator judges every item; an item counts as met only if all of them agree."""
    reviser: BackendConfig
    """Rewrites a solution according to the critique that found the most faults."""
    chain: BackendConfig
    """Chain completion: prompt and final solution → summary of the reasoning, then the chain of thought leading to
    it."""
    style: str = "words"
    """How roles are prompted and how their replies are parsed: `words` for instruction-following models, or the name of
    an entry point in the group `thinkling.refine_styles`."""
    style_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the style; `words` has none."""
    rounds: int = Field(default=3, ge=0)
    """Maximum revisions per job."""
    patience: int = Field(default=2, ge=1)
    """A job ends after this many consecutive revisions that meet no more items than the best one before."""
    keep: Literal["checklist", "verified", "any"] = "checklist"
    """`checklist`: keep solutions that meet all items. `verified`: of those, keep the ones that the problem's verifier
    accepts (uses the reference answer, which no role ever sees). `any`: also keep the best solution of jobs that ended
    otherwise."""
    checklist_version: int = Field(default=1, ge=1)
    """Part of a job's key; increase it when the wording of checklists changes."""
    chunk: int = Field(default=512, ge=1)
    """Jobs processed together in each phase. Finished phases of a chunk survive a kill."""

    output_version: ClassVar[int] = 4
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "conversations"
    roles: ClassVar[Mapping[str, str]] = {f"{name}?": "model" for name in INPUTS}

    @property
    def backends(self) -> dict[str, BackendConfig]:
        """All backends, by the field that names them."""
        several = {"drafters": self.drafters, "evaluators": self.evaluators}
        named = {f"{field}.{i}": backend for field, backends in several.items() for i, backend in enumerate(backends)}
        return {**named, "checklist": self.checklist, "reviser": self.reviser, "chain": self.chain}

    @model_validator(mode="after")
    def _inputs_are_there(self) -> RefineConfig:
        for field, backend in self.backends.items():
            if backend.input is not None and backend.input not in self.inputs:
                raise ValueError(f"{field}.input: {backend.input!r} is not in inputs; add it there")
        return self

    @model_validator(mode="after")
    def _style_is_there(self) -> RefineConfig:
        try:
            self.make_style()
        except UserError as error:
            raise ValueError(f"style: {error}") from error
        except (TypeError, ValidationError) as error:
            detail = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            field = ".".join(map(str, ("style_options", *detail["loc"])))
            raise ValueError(f"{field}: {detail['msg']}") from error
        return self

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return {f"{f}.chat": (b.input, b.chat) for f, b in self.backends.items() if b.input is not None}

    def make_style(self) -> Style:
        """The style with its options. Raises UserError, TypeError or ValidationError if either is invalid."""
        return STYLES.resolve(self.style)(**self.style_options)

    def needs(self) -> list[Need]:
        return [self.problems.need()]

    def judges(self) -> list[str]:
        """The audit judges every solution."""
        return [self.problems.source]
