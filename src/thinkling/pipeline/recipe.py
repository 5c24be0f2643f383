"""The recipe: one YAML file that says everything a run does. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    SerializeAsAny,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.names import Name, checked_name
from thinkling.pipeline.mistakes import SourceErrors, explain, nearest
from thinkling.pipeline.recipe_yaml import apply_override, read_yaml
from thinkling.pipeline.renamed import renamed_to
from thinkling.sources.base import TYPES, Source, bound, is_source, lacks
from thinkling.stages.base import StageConfig
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.training.config import TrackersConfig, TrainingConfig

Stage = Annotated[
    CurateConfig | TokenizeConfig | PretrainConfig | RefineConfig | SftConfig | DpdConfig | RlConfig | EvaluateConfig,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[StageConfig]] = {
    "curate": CurateConfig,
    "tokenize": TokenizeConfig,
    "pretrain": PretrainConfig,
    "refine": RefineConfig,
    "sft": SftConfig,
    "dpd": DpdConfig,
    "rl": RlConfig,
    "evaluate": EvaluateConfig,
}
"""Stage kinds in the order of the recipe; a kind is also the verb, the folder and the docs page."""


AnySource = Annotated[SerializeAsAny[InstanceOf[Source]], WithJsonSchema({})]


class HardwareConfig(BaseModel):
    """What the plan reckons with. Changes nothing in a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "H100 SXM"
    """Name of the device, for the printed figures."""
    peak_flops: float = Field(default=989e12, gt=0)
    """Dense bf16 FLOP/s of one device."""
    mfu: float = Field(default=0.40, gt=0, le=1)
    """Share of the peak that training reaches: an assumption, printed with every figure that depends on it."""
    devices: int = Field(default=1, ge=1)
    """Number of devices."""


class SandboxConfig(BaseModel):
    """A sandbox that holds more than the standard library."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    packages: list[Literal["numpy", "sympy"]] = Field(min_length=1)
    """What programs and their tests can import besides. They have to be installed where thinkling is. A server with
    them takes seconds to start, so that none has them by default."""


class Recipe(BaseModel):
    """A run as data: the model, the tokenizer, where raw material comes from, and the stages in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Name
    """Folder of the run under `runs/`."""
    seed: int = Field(default=0, ge=0)
    """The one seed; a stage's is hash(seed, stage name)."""
    threads: int = Field(default=1, ge=1)
    """CPU threads. Hashed for stages whose bits depend on it: sums in another order give other bits."""
    model: ModelConfig | None = None
    """Shape of the model that the pretrain stage creates; used only by that stage."""
    tokenizer: TokenizerConfig | None = None
    """Tokenizer of a model that is pre-trained: one to train, or one that exists."""
    sources: dict[str, AnySource] = Field(default_factory=dict)
    """Name → where raw material comes from; `type` says which kind of source it is."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """Name → stage, in the order in which they run; `kind` says which kind of stage it is."""
    sandbox: Literal["required", "none"] | SandboxConfig = "required"
    """`none`: this machine cannot confine code that a model wrote. Stages whose verifiers would run such code are
    skipped, and so is what depends on them. `{packages: [numpy, sympy]}`: it is confined, and programs that verifiers
    judge can import these."""
    plan_only: bool = False
    """A recipe whose sources are not on this machine: it can be planned, not run."""
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    """What `plan` reckons GPU-hours with."""
    trackers: TrackersConfig = Field(default_factory=TrackersConfig)
    """TensorBoard and Weights & Biases. Never hashed."""

    @field_validator("sources", mode="before")
    @classmethod
    def _read_sources(cls, value: Any) -> Any:
        """Each source by the class of its type, which a package may bring along."""
        if not isinstance(value, dict):
            return value
        found: dict[str, Source] = {}
        wrong: list[str] = []
        for name, fields in value.items():
            try:
                found[checked_name(str(name))] = read_source(name, fields)
            except UserError as error:
                wrong += str(error).split("\n")
            except ValueError as error:
                wrong.append(f"sources: {error}")
        if wrong:
            raise SourceErrors(wrong)
        return bound(found)

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        made = {name: source.artifact_kind for name, source in self.sources.items() if source.artifact_kind}
        for name, source in self.sources.items():
            for other in source.references():
                if other not in self.sources:
                    raise ValueError(f"sources.{name}: there is no source {other!r}")
            _check_tools(name, source)
        for name, stage in self.stages.items():
            if name in self.sources:
                raise ValueError(f"stages.{name}: a source has the same name")
            self._check_inputs(name, stage, made)
            for need in stage.needs():
                where = f"stages.{name}.{need.field}"
                if need.source not in self.sources:
                    raise ValueError(f"{where}: there is no source {need.source!r}{nearest(need.source, self.sources)}")
                if need.offer not in (source := self.sources[need.source]).offers:
                    raise ValueError(f"{where}: {need.source!r}: {lacks(source, need.offer)}")
            for part in stage.uses:
                if getattr(self, part) is None:
                    raise ValueError(f"{part}: missing; stage {name} needs it")
            made[name] = stage.produces
        return self

    def _check_inputs(self, name: str, stage: StageConfig, made: dict[str, str]) -> None:
        required = {role for role in stage.roles if not role.endswith("?")}
        allowed = {role.rstrip("?"): kind for role, kind in stage.roles.items()}
        if self.plan_only:
            required = set()
        for role in required - set(stage.inputs):
            raise ValueError(f"stages.{name}.inputs.{role}: missing; it must name a stage that makes {allowed[role]}")
        for role, producer in stage.inputs.items():
            if role not in allowed:
                new = renamed_to(("stages", name, stage.kind, "inputs", role))
                wrong = f"renamed to {new}" if new in allowed else f"unknown role; {stage.kind} takes {_list(allowed)}"
                raise ValueError(f"stages.{name}.inputs.{role}: {wrong}")
            if producer not in made:
                where = (
                    "comes later in the recipe"
                    if producer in self.stages
                    else "is not a stage" + nearest(producer, made)
                )
                raise ValueError(f"stages.{name}.inputs.{role}: {producer!r} {where}")
            if allowed[role] == "state":
                self._check_state(name, stage, producer)
            elif made[producer] != allowed[role]:
                raise ValueError(
                    f"stages.{name}.inputs.{role}: {producer!r} makes {made[producer]}, not {allowed[role]}"
                )

    def packages(self) -> tuple[str, ...]:
        """What judged programs can import beside the standard library."""
        return tuple(sorted(set(self.sandbox.packages))) if isinstance(self.sandbox, SandboxConfig) else ()

    def judging(self) -> dict[str, str]:
        """Stages that run what a model wrote, to judge it or as a tool → the source of the problems."""
        from thinkling.generate import tools
        from thinkling.verify import registry

        judged = {name for name, s in self.sources.items() if any(map(registry.needs_sandbox, s.verifiers()))}
        called = {name for name, s in self.sources.items() if any(map(tools.needs_sandbox, s.tool_names()))}
        found = {
            name: [*(s for s in stage.judges() if s in judged), *(s for s in stage.calls() if s in called)]
            for name, stage in self.stages.items()
        }
        return {name: running[0] for name, running in found.items() if running}

    def skipped(self) -> dict[str, str]:
        """Stages that `sandbox: none` skips → why: those that would run code, and what depends on them."""
        if self.sandbox != "none":
            return {}
        reasons = {
            name: f"sandbox: none, and it runs programs that a model wrote (source {source})"
            for name, source in self.judging().items()
        }
        for name, stage in self.stages.items():
            missing = next((producer for producer in stage.inputs.values() if producer in reasons), None)
            if missing is not None:
                reasons.setdefault(name, f"it depends on {missing}, which is skipped")
        return {name: reasons[name] for name in self.stages if name in reasons}

    def _check_state(self, name: str, stage: StageConfig, producer: str) -> None:
        """A training state is what a stage of the same kind, optimizer and dtype of weights kept in this run."""
        where = f"stages.{name}.inputs.state: {producer!r}"
        other = self.stages.get(producer)
        if other is None or other.kind != stage.kind:
            raise ValueError(f"{where} is not a {stage.kind} stage; only one of the same kind can be continued")
        if "state" not in other.products:
            raise ValueError(f"{where} keeps no training state; set stages.{producer}.keep_state: true")
        assert isinstance(stage, TrainingConfig)
        assert isinstance(other, TrainingConfig)
        if stage.optimizer.name != other.optimizer.name:
            raise ValueError(
                f"{where} was trained with {other.optimizer.name}, so its state does not fit optimizer.name "
                f"{stage.optimizer.name}; name the same optimizer in both"
            )
        if stage.precision.weights != other.precision.weights:
            raise ValueError(
                f"{where} keeps its state in {other.precision.weights}, and precision.weights is "
                f"{stage.precision.weights}; set the same in both"
            )

    def needed_by(self, targets: list[str]) -> list[str]:
        """The targets and the stages that they depend on, in the recipe's order."""
        wanted = set(targets)
        for name in reversed(list(self.stages)):
            if name in wanted:
                wanted |= {producer for producer in self.stages[name].inputs.values() if producer in self.stages}
        return [name for name in self.stages if name in wanted]

    def sources_of(self, names: list[str]) -> dict[str, Any]:
        """The named sources and those that they refer to."""
        found: dict[str, Any] = {}
        queue = list(names)
        while queue:
            name = queue.pop(0)
            if name not in found:
                found[name] = self.sources[name]
                queue += self.sources[name].references()
        return dict(sorted(found.items()))


def _check_tools(name: str, source: Source) -> None:
    """Raises ValueError for a tool that is not known, or whose package is broken."""
    from thinkling.generate.tools import resolve

    for tool in sorted(source.tool_names()):
        try:
            resolve(tool)
        except UserError as error:
            raise ValueError(f"sources.{name}: {error}") from error


def read_source(name: str, fields: Any) -> Source:
    """A source as a recipe spells it. Raises UserError with one line per mistake."""
    if is_source(fields):
        return fields
    where = f"sources.{name}"
    if not isinstance(fields, dict):
        raise UserError(f"{where}: a source is a mapping with at least `type`")
    if "type" not in fields:
        raise UserError(f"{where}: type is missing; known are {', '.join(TYPES.names())}")
    try:
        kind: type[Source] = TYPES.resolve(str(fields["type"]))
    except UserError as error:
        raise UserError(f"{where}.type: {error}") from error
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise UserError("\n".join(explain(error, kind, where))) from error


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "no inputs"


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe and applies overrides of the form `stages.pretrain.batch_tokens=2048`.

    Raises UserError with one line per mistake, each naming its field.
    """
    data = read_yaml(path)
    fields = [override.partition("=")[0] for override in overrides or []]
    for field in fields:
        if fields.count(field) > 1:
            raise UserError(f"--set {field}: given twice; remove one")
    for override in overrides or []:
        apply_override(data, override, Recipe.model_fields)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in explain(error, Recipe))) from error
