"""The recipe: one YAML file that says everything a run does. Loads no torch."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError, model_validator

from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.pipeline.renamed import renamed_to
from thinkling.stages.base import StageConfig
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sources import ModelSource, Source, TokensSource
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


class HardwareConfig(BaseModel):
    """What the plan reckons with. Changes nothing in a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "H100 SXM"
    peak_flops: float = Field(default=989e12, gt=0)
    """Dense bf16 FLOP/s of one device."""
    mfu: float = Field(default=0.40, gt=0, le=1)
    """Share of the peak that training reaches: an assumption, printed with every figure that rests on it."""
    devices: int = Field(default=1, ge=1)


class Recipe(BaseModel):
    """A run as data: the model, the tokenizer, where raw material comes from, and the stages in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Folder of the run under `runs/`."""
    seed: int = Field(default=0, ge=0)
    """The one seed; a stage's is hash(seed, stage name)."""
    threads: int = Field(default=1, ge=1)
    """CPU threads. Hashed for stages whose bits depend on it: sums in another order give other bits."""
    model: ModelConfig | None = None
    tokenizer: TokenizerConfig | None = None
    sources: dict[str, Source] = Field(default_factory=dict)
    stages: dict[str, Stage] = Field(min_length=1)
    sandbox: Literal["required", "none"] = "required"
    """`none`: this machine cannot confine code that a model wrote. RL stages and task sets whose verifier would run it
    are left out, and the result names them."""
    plan_only: bool = False
    """A recipe whose sources are not on this machine: it can be planned, not run."""
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    trackers: TrackersConfig = Field(default_factory=TrackersConfig)
    """TensorBoard and Weights & Biases. Never hashed."""
    _left_out: tuple[str, ...] = PrivateAttr(())

    @property
    def left_out(self) -> tuple[str, ...]:
        """What `sandbox: none` left out (without_sandbox.py): stages, and task sets as `NAME.task_sets.programs`."""
        return self._left_out

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        made: dict[str, str] = {n: "model" for n, s in self.sources.items() if isinstance(s, ModelSource)}
        if self.plan_only:
            made |= {n: "tokens" for n, s in self.sources.items() if isinstance(s, TokensSource)}
        for name, source in self.sources.items():
            for other in source.references():
                if other not in self.sources:
                    raise ValueError(f"sources.{name}: there is no source {other!r}")
        for name, stage in self.stages.items():
            if name in self.sources:
                raise ValueError(f"stages.{name}: a source bears the same name")
            self._check_inputs(name, stage, made)
            for other in stage.source_names():
                if other not in self.sources:
                    raise ValueError(f"stages.{name}: there is no source {other!r}{_nearest(other, self.sources)}")
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
        for role, giver in stage.inputs.items():
            if role not in allowed:
                raise ValueError(f"stages.{name}.inputs.{role}: unknown role; {stage.kind} takes {_list(allowed)}")
            if giver not in made:
                where = "stands later in the recipe" if giver in self.stages else "is no stage" + _nearest(giver, made)
                raise ValueError(f"stages.{name}.inputs.{role}: {giver!r} {where}")
            if allowed[role] == "state":
                self._check_state(name, stage, giver)
            elif made[giver] != allowed[role]:
                raise ValueError(f"stages.{name}.inputs.{role}: {giver!r} makes {made[giver]}, not {allowed[role]}")

    def _check_state(self, name: str, stage: StageConfig, giver: str) -> None:
        """A training state is what a stage of the same kind and optimizer kept in this run."""
        where = f"stages.{name}.inputs.state: {giver!r}"
        other = self.stages.get(giver)
        if other is None or other.kind != stage.kind:
            raise ValueError(f"{where} is no {stage.kind} stage; only one of the same kind can be continued")
        if "state" not in other.products:
            raise ValueError(f"{where} keeps no training state; set stages.{giver}.keep_state: true")
        assert isinstance(stage, TrainingConfig)
        assert isinstance(other, TrainingConfig)
        if stage.optimizer.name != other.optimizer.name:
            raise ValueError(
                f"{where} was trained with {other.optimizer.name}, so its state does not fit optimizer.name "
                f"{stage.optimizer.name}; name the same optimizer in both"
            )

    def needed_by(self, targets: list[str]) -> list[str]:
        """The targets and the stages that they rest on, in the recipe's order."""
        wanted = set(targets)
        for name in reversed(list(self.stages)):
            if name in wanted:
                wanted |= {giver for giver in self.stages[name].inputs.values() if giver in self.stages}
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


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe and applies overrides of the form `stages.pretrain.batch_tokens=2048`.

    Raises UserError in a line a mistake, each naming its field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping, with at least `name` and `stages`")
    for override in overrides or []:
        apply_override(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in explain(error))) from error


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one value, `a.b.0.c=value` with the value read as YAML. What a path names must exist, but its last part.

    Raises UserError that names the part of the path that is not there.
    """
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise UserError(f"--set {override}: write field=value, as in --set stages.pretrain.checkpoint_every=100")
    *parents, last = path.split(".")
    node: Any = data
    for depth, part in enumerate(parents):
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        known = range(len(node)) if isinstance(node, list) else node
        if not isinstance(node, dict | list) or key not in known:
            if depth == 0 and part in Recipe.model_fields and part not in data:
                data[part] = {}
            else:
                raise UserError(f"--set {override}: the recipe has no {'.'.join(parents[: depth + 1])}")
        node = node[key]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML") from error
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise UserError(f"--set {override}: {'.'.join(parents)} is a list of {len(node)}")
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"--set {override}: {'.'.join(parents)} is a single value")


def explain(error: ValidationError) -> list[str]:
    """One line a mistake: the field's path as a person writes it, what is wrong, and the nearest known key."""
    lines = []
    for item in error.errors():
        path = [str(part) for i, part in enumerate(item["loc"]) if not (i == 2 and item["loc"][0] in _TAGGED)]
        field = ".".join(path)
        if item["type"] == "extra_forbidden":
            new = renamed_to(item["loc"])
            known = _siblings(item["loc"])
            lines.append(
                f"{field}: renamed to {new}" if new in known else f"{field}: unknown key{_nearest(path[-1], known)}"
            )
        elif item["type"] == "value_error":
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {message}" if field else message)
        elif item["type"] == "missing":
            lines.append(f"{field}: missing")
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            context = item.get("ctx", {})
            key = str(context.get("discriminator")).strip("'")
            known = context.get("expected_tags")
            lines.append(
                f"{field}: {key} {context['tag']!r} is unknown; known are {known}"
                if known
                else f"{field}: {key} is missing"
            )
        else:
            shown = "" if isinstance(item["input"], dict | list) else f" (it is {item['input']!r})"
            lines.append(f"{field}: {item['msg'][0].lower()}{item['msg'][1:]}{shown}")
    return lines


_TAGGED = ("stages", "sources")
"""Mappings of a union's members: pydantic puts the member's tag as a third part into an error's path."""


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Known keys at the place of an unknown one, read off the schema."""
    schema = TypeAdapter(Recipe).json_schema()
    node: Any = schema
    for part in location[:-1]:
        node = _step(schema, node, part)
        if node is None:
            return []
    node = _deref(schema, node)
    return list(node.get("properties", {}))


def _deref(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            node = next((n for n in node["anyOf"] if "$ref" in n), {})
    return node


def _step(schema: dict[str, Any], node: dict[str, Any], part: int | str) -> dict[str, Any] | None:
    node = _deref(schema, node)
    if isinstance(part, int):
        return node.get("items")
    if "oneOf" in node:
        reference = node["discriminator"]["mapping"].get(part)
        return {"$ref": reference} if reference else None
    if part in node.get("properties", {}):
        return node["properties"][part]
    extra = node.get("additionalProperties")
    return extra if isinstance(extra, dict) else None


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "no inputs"
