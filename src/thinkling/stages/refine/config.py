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
    """The model for one role of the refine stage: an input of the stage, or a server with the OpenAI chat completions
    API."""

    input: Literal["refiner", "student", "teacher"] | None = None
    """Key of the stage's `inputs` under which the model is listed. Not set if the model is behind a server."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 means greedy decoding."""
    chat: ChatConfig = Field(default_factory=ChatConfig)
    """Chat template of the `input` model. A server applies its own chat template."""

    @model_validator(mode="after")
    def _local_or_served(self) -> BackendConfig:
        if (self.input is None) == (self.url is None):
            raise ValueError(
                "set either input, or url and model (with --set, both at once: --set FIELD='{url: …, model: …}')"
            )
        if self.url is not None and self.model is None:
            raise ValueError("model: missing; set the name of the served model")
        if self.url is not None and self.chat != ChatConfig():
            raise ValueError("chat: has no effect with url, because the server applies its own template; remove chat")
        for name in ("temperature", "top_p"):
            if name in self.omit and name in self.model_fields_set:
                raise ValueError(
                    f"{name}: is listed in omit, so it would not be sent; unset {name}, or remove it from omit"
                )
        return self

    @property
    def identity(self) -> str:
        """Key that identifies the model behind the backend. Backends with the same key share a model."""
        if self.input is not None:
            return f"{self.input} {self.chat.model_dump_json()}"
        return repr([(name, getattr(self, name)) for name in ServerConfig.model_fields])


class RefineConfig(ChattingConfig):
    """Solution refinement and chain reconstruction (docs/recipe.md, Refinement)."""

    kind: Literal["refine"]
    problems: ProblemsConfig
    """Problems to solve. Each problem is one job."""
    drafters: list[BackendConfig] = Field(min_length=1)
    """Models that write drafts, for example teachers and the current model. Jobs are assigned to the drafters in
    turn."""
    checklist: BackendConfig
    """Model that writes the checklist for a problem, i.e. the items that a solution of this problem must meet. The
    model sees only the problem statement."""
    evaluators: list[BackendConfig] = Field(min_length=1)
    """Models that judge solutions. Each evaluator judges every item of the checklist. An item is met if all evaluators
    whose critique can be parsed consider it met."""
    reviser: BackendConfig
    """Model that rewrites a solution according to the critique that found the most faults."""
    chain: BackendConfig
    """Model for chain completion. From the problem and the final solution, it writes a summary of the reasoning, then
    the chain of thought that leads to the solution."""
    style: str = "words"
    """How roles are prompted and how their replies are parsed: `words` for instruction-following models, or the name of
    an entry point in the group `thinkling.refine_styles`."""
    style_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the style. `words` has no options."""
    rounds: int = Field(default=3, ge=0)
    """Maximum number of revisions per job; 0 means that drafts are judged but not revised."""
    patience: int = Field(default=2, ge=1)
    """Number of consecutive revisions without improvement after which a job ends. A revision is an improvement if it
    meets more items than all earlier solutions of the job."""
    keep: Literal["checklist", "verified", "any"] = "checklist"
    """Which solutions are kept. `checklist`: solutions that meet all items. `verified`: solutions that meet all items
    and that the problem's verifier accepts (the verifier uses the reference answer, which no role ever sees). `any`:
    solutions that meet all items, and the best solution of each job that ended for a different reason."""
    checklist_version: int = Field(default=1, ge=1)
    """Version of the checklists. It is part of a job's key; increase it when the wording of checklists changes."""
    chunk: int = Field(default=512, ge=1)
    """Number of jobs in a chunk. The jobs of a chunk are processed together, in phases such as drafts, checklists and
    critiques. When a killed run is resumed, completed phases of a chunk are not repeated."""

    output_version: ClassVar[int] = 4
    uses_torch: ClassVar[bool] = True
    produces: ClassVar[str] = "conversations"
    roles: ClassVar[Mapping[str, str]] = {f"{name}?": "model" for name in INPUTS}

    @property
    def backends(self) -> dict[str, BackendConfig]:
        """All backends, by configuration field."""
        several = {"drafters": self.drafters, "evaluators": self.evaluators}
        named = {f"{field}.{i}": backend for field, backends in several.items() for i, backend in enumerate(backends)}
        return {**named, "checklist": self.checklist, "reviser": self.reviser, "chain": self.chain}

    @model_validator(mode="after")
    def _inputs_are_there(self) -> RefineConfig:
        for field, backend in self.backends.items():
            if backend.input is not None and backend.input not in self.inputs:
                raise ValueError(f"{field}.input: {backend.input!r} is not in the stage's inputs; add it there")
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
            raise ValueError(f"{field}: {detail['msg'].removeprefix('Value error, ')}") from error
        return self

    def chats(self) -> Mapping[str, tuple[str, ChatConfig]]:
        return {f"{f}.chat": (b.input, b.chat) for f, b in self.backends.items() if b.input is not None}

    def make_style(self) -> Style:
        """Creates the style with its options.

        Raises UserError, TypeError or ValidationError if the style or its options are invalid.
        """
        return STYLES.resolve(self.style)(**self.style_options)

    def needs(self) -> list[Need]:
        return [self.problems.need()]

    def judges(self) -> list[str]:
        """Returns the source of the problems, because the audit judges every solution."""
        return [self.problems.source]
