"""The recipe: one YAML file that describes a complete run. This module does not import torch."""

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
"""Stage kinds in their usual order. Each kind is also the name of a command, of a folder in `stages` and of a page in
`docs`."""


AnySource = Annotated[SerializeAsAny[InstanceOf[Source]], WithJsonSchema({})]


class HardwareConfig(BaseModel):
    """The hardware for which `plan` computes GPU-hours and memory. It has no effect on a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "H100 SXM"
    """Name of the device, printed with the figures."""
    peak_flops: float = Field(default=989e12, gt=0)
    """Peak dense bf16 FLOP/s of one device."""
    mfu: float = Field(default=0.40, gt=0, le=1)
    """Assumed model FLOPs utilization: the fraction of `peak_flops` that training reaches. It is printed with the
    figures that depend on it."""
    devices: int = Field(default=1, ge=1)
    """Number of devices."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory of one device in GiB. `plan` compares the predicted memory with it if this machine has no GPU. If not set,
    the prediction is printed without a comparison."""


class SandboxConfig(BaseModel):
    """A sandbox in which programs can import more than the standard library."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    packages: list[Literal["numpy", "sympy"]] = Field(min_length=1)
    """Packages that programs and their tests can import in addition to the standard library. The packages must be
    installed in the same environment as thinkling. Without this field, programs can import only the standard library,
    because a sandbox server that imports these packages takes seconds to start."""


class Recipe(BaseModel):
    """The description of a run: the model, the tokenizer, the sources, and the stages in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Name
    """Folder of the run under `runs/`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the run. Each stage's seed is hash(seed, stage name)."""
    threads: int = Field(default=1, ge=1)
    """Number of CPU threads. A different number of threads changes the order of summation and therefore the rounding,
    so this number is part of the hash of the stages that it affects."""
    model: ModelConfig | None = None
    """Architecture and size of the model that a pretrain stage creates. No other kind of stage uses this section."""
    tokenizer: TokenizerConfig | None = None
    """Tokenizer of the model to pre-train. It is either trained by the tokenize stage or loaded from a path."""
    sources: dict[str, AnySource] = Field(default_factory=dict)
    """Name → source, i.e. an input of the recipe: text, conversations, problems or a model. The field `type` selects
    the type of source."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """Name → stage, in the order in which the stages run. The field `kind` selects the kind of stage."""
    sandbox: Literal["required", "none"] | SandboxConfig = "required"
    """Whether code written by a model must run in a sandbox. `required`: stages that run such code need a sandbox.
    `none`: stages that would run such code are skipped, and so are all stages that depend on them; use it on a machine
    without a sandbox. `{packages: [numpy, sympy]}`: as `required`, and programs in the sandbox can import these
    packages."""
    plan_only: bool = False
    """Whether the recipe can only be planned and not run, because its sources are not on this machine."""
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    """Hardware for which `plan` computes GPU-hours."""
    trackers: TrackersConfig = Field(default_factory=TrackersConfig)
    """Settings of TensorBoard, Weights & Biases and other experiment trackers. They are not part of any hash."""

    @field_validator("sources", mode="before")
    @classmethod
    def _read_sources(cls, value: Any) -> Any:
        """Validate each source with the class of its type, which an installed package may have registered."""
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
                    raise ValueError(
                        f"sources.{name}: refers to the unknown source {other!r}; correct the name, or add the source"
                    )
            _check_tools(name, source)
        for name, stage in self.stages.items():
            if name in self.sources:
                raise ValueError(f"stages.{name}: a source has the same name; rename one of the two")
            self._check_inputs(name, stage, made)
            for need in stage.needs():
                where = f"stages.{name}.{need.field}"
                if need.source not in self.sources:
                    raise ValueError(f"{where}: there is no source {need.source!r}{nearest(need.source, self.sources)}")
                if need.offer not in (source := self.sources[need.source]).offers:
                    raise ValueError(f"{where}: {need.source!r}: {lacks(source, need.offer)}")
            for part in stage.uses:
                if getattr(self, part) is None:
                    raise ValueError(f"{part}: missing, but required by stage {name}; add {part} to the recipe")
            made[name] = stage.produces
        return self

    def _check_inputs(self, name: str, stage: StageConfig, made: dict[str, str]) -> None:
        required = {role for role in stage.roles if not role.endswith("?")}
        allowed = {role.rstrip("?"): kind for role, kind in stage.roles.items()}
        if self.plan_only:
            required = set()
        for role in required - set(stage.inputs):
            raise ValueError(
                f"stages.{name}.inputs.{role}: missing; name a stage or source that produces the {allowed[role]}"
            )
        for role, producer in stage.inputs.items():
            if role not in allowed:
                new = renamed_to(("stages", name, stage.kind, "inputs", role))
                unknown = f"unknown role; the roles of {stage.kind} are: {_list(allowed)}"
                wrong = f"renamed to {new}" if new in allowed else unknown
                raise ValueError(f"stages.{name}.inputs.{role}: {wrong}")
            if producer not in made:
                where = (
                    f"comes later in the recipe; move {producer} before {name}"
                    if producer in self.stages
                    else "is neither a stage nor a source of type model or tokens" + nearest(producer, made)
                )
                raise ValueError(f"stages.{name}.inputs.{role}: {producer!r} {where}")
            if allowed[role] == "state":
                self._check_state(name, stage, producer)
            elif made[producer] != allowed[role]:
                raise ValueError(
                    f"stages.{name}.inputs.{role}: {producer!r} produces {made[producer]}, not {allowed[role]}"
                )

    def packages(self) -> tuple[str, ...]:
        """Return the packages that programs in the sandbox can import besides the standard library."""
        return tuple(sorted(set(self.sandbox.packages))) if isinstance(self.sandbox, SandboxConfig) else ()

    def judging(self) -> dict[str, str]:
        """Map each stage that runs model-written code, in a verifier or as a tool, to the source that requires it."""
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
        """Map each stage that `sandbox: none` skips to the reason: it would run model-written code, or it depends
        on a skipped stage."""
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
        """Check that `producer` keeps a training state, and that its kind, optimizer and weight dtype are those of
        `stage`."""
        where = f"stages.{name}.inputs.state: {producer!r}"
        other = self.stages.get(producer)
        if other is None or other.kind != stage.kind:
            raise ValueError(f"{where} is not a {stage.kind} stage; only a stage of the same kind can be continued")
        if "state" not in other.products:
            raise ValueError(f"{where} does not keep its training state; set stages.{producer}.keep_state: true")
        assert isinstance(stage, TrainingConfig)
        assert isinstance(other, TrainingConfig)
        if stage.optimizer.name != other.optimizer.name:
            raise ValueError(
                f"{where} was trained with {other.optimizer.name}, so its state does not fit optimizer.name "
                f"{stage.optimizer.name}; set the same optimizer in both stages"
            )
        if stage.precision.weights != other.precision.weights:
            raise ValueError(
                f"{where} keeps its state in {other.precision.weights}, but precision.weights of {name} is "
                f"{stage.precision.weights}; set the same value in both stages"
            )
        if (
            isinstance(stage, PretrainConfig)
            and isinstance(other, PretrainConfig)
            and (stage.packing, other.packing) == ("sequential", "best_fit")
        ):
            raise ValueError(
                f"{where} packs by best fit, which sequential packing cannot continue; set stages.{name}.packing: "
                "best_fit"
            )

    def needed_by(self, targets: list[str]) -> list[str]:
        """Return the targets and the stages that they depend on, in the order of the recipe."""
        wanted = set(targets)
        for name in reversed(list(self.stages)):
            if name in wanted:
                wanted |= {producer for producer in self.stages[name].inputs.values() if producer in self.stages}
        return [name for name in self.stages if name in wanted]

    def sources_of(self, names: list[str]) -> dict[str, Any]:
        """Return the sources with these names and the sources that they refer to."""
        found: dict[str, Any] = {}
        queue = list(names)
        while queue:
            name = queue.pop(0)
            if name not in found:
                found[name] = self.sources[name]
                queue += self.sources[name].references()
        return dict(sorted(found.items()))


def _check_tools(name: str, source: Source) -> None:
    """Raise ValueError if a tool of the source is unknown or its package is broken."""
    from thinkling.generate.tools import resolve

    for tool in sorted(source.tool_names()):
        try:
            resolve(tool)
        except UserError as error:
            raise ValueError(f"sources.{name}: {error}") from error


def read_source(name: str, fields: Any) -> Source:
    """Create a source from its fields in a recipe. Raises UserError with one line per mistake."""
    if is_source(fields):
        return fields
    where = f"sources.{name}"
    if not isinstance(fields, dict):
        raise UserError(f"{where}: a source must be a mapping with at least `type`")
    if "type" not in fields:
        raise UserError(f"{where}: type is missing; the known types are {', '.join(TYPES.names())}")
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
    """Read a recipe and apply overrides of the form `stages.pretrain.batch_tokens=2048`.

    Raises UserError with one line per mistake, which starts with the field.
    """
    data = read_yaml(path)
    fields = [override.partition("=")[0] for override in overrides or []]
    for field in fields:
        if fields.count(field) > 1:
            raise UserError(f"--set {field}: specified twice; remove one of them")
    for override in overrides or []:
        apply_override(data, override, Recipe.model_fields)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in explain(error, Recipe))) from error
