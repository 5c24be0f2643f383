"""The `plan` command: print the stages of a recipe with their states, and the figures of pre-training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from thinkling.data.artifact import Artifact, read_manifest, verify
from thinkling.pipeline import space
from thinkling.pipeline.checks import check
from thinkling.pipeline.clean import left_over
from thinkling.pipeline.progress import short
from thinkling.pipeline.recipe import HardwareConfig, Recipe
from thinkling.pipeline.runner import Run
from thinkling.pipeline.training_memory import show_memory
from thinkling.seeds import derive
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.pretrain.phases import Phase, check_epochs, check_order, epochs, resolve


@dataclass(frozen=True)
class PhasePlan:
    """The figures of a phase. `tokens_asked`: as set in the recipe. `tokens`: rounded to whole optimizer steps."""

    name: str
    tokens_asked: int
    tokens: int
    steps: int
    sequence_length: int
    batch_size: int
    lr_first: float
    lr_last: float
    rope_theta: float
    fractions: dict[str, float]
    epochs: dict[str, float]
    """Number of passes over each source of known size in this phase."""
    flops: float
    waste: dict[str, float] = field(default_factory=dict)
    """Predicted fraction of padding in the rows of each source whose document lengths are known."""

    @property
    def batch_tokens(self) -> int:
        """Number of tokens per step."""
        return self.batch_size * self.sequence_length


@dataclass(frozen=True)
class PretrainPlan:
    """The figures of a pretrain stage."""

    stage: str
    phases: list[PhasePlan]
    parameters: int | None
    non_embedding_parameters: int
    epochs: dict[str, float] = field(default_factory=dict)
    """Total number of passes over each source of known size."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def tokens(self) -> int:
        return sum(phase.tokens for phase in self.phases)

    @property
    def flops(self) -> float:
        return sum(phase.flops for phase in self.phases)

    @property
    def waste(self) -> dict[str, float]:
        """Predicted fraction of padding in the rows of each source whose document lengths are known, over all
        phases."""
        rows = {name: 0.0 for phase in self.phases for name in phase.waste}
        padding = dict(rows)
        for phase in self.phases:
            for name, fraction in phase.waste.items():
                rows[name] += phase.tokens * phase.fractions[name]
                padding[name] += phase.tokens * phase.fractions[name] * fraction
        return {name: padding[name] / rows[name] for name in rows}

    def gpu_hours(self, hardware: HardwareConfig) -> float:
        """Return the GPU-hours: total FLOPs divided by the FLOPs per hour of one device at the assumed MFU."""
        return self.flops / (hardware.peak_flops * hardware.mfu * 3600)

    def as_json(self, hardware: HardwareConfig) -> dict[str, Any]:
        return asdict(self) | {
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "gpu_hours": self.gpu_hours(hardware),
            "hardware": hardware.model_dump(),
        }


def plan_pretraining(
    recipe: Recipe, stage: str, sizes: dict[str, float], vocab_size: int | None = None, shards: Path | None = None
) -> PretrainPlan:
    """Compute the figures of a pretrain stage. `sizes`: the known sizes of its sources in tokens. `shards`: the shards
    of its sources, if they exist, from which the padding is predicted.

    Raises UserError if the mixture and the learning rate change at the same time, or if a source is repeated more often
    than its limit allows.
    """
    config, model = recipe.stages[stage], recipe.model
    assert isinstance(config, PretrainConfig)
    assert model is not None
    if model.vocab_size is None and vocab_size is None and recipe.tokenizer is not None:
        vocab_size = getattr(recipe.tokenizer, "vocab_size", None)
    model = model if model.vocab_size else model.model_copy(update={"vocab_size": vocab_size})
    before, phases = resolved_phases(recipe, stage, model.rope_theta)
    check_order([*before[-1:], *phases])
    if sizes:
        check_epochs(config, before + phases, sizes)
    passes = epochs(phases, sizes)
    known = model.vocab_size is not None
    waste: list[dict[str, float]] = [{} for _ in phases]
    if shards is not None:
        from thinkling.pipeline.padding import predicted_waste, source_lengths  # loads numpy

        all_phases = before + phases
        waste = predicted_waste(all_phases, source_lengths(shards), derive(recipe.seed, stage))[len(before) :]
    return PretrainPlan(
        stage=stage,
        phases=[
            PhasePlan(
                name=phase.name,
                tokens_asked=asked.tokens,
                tokens=phase.tokens,
                steps=phase.steps,
                sequence_length=phase.sequence_length,
                batch_size=phase.batch_size,
                lr_first=phase.lr_first,
                lr_last=phase.lr_last,
                rope_theta=phase.rope_theta,
                fractions=phase.fractions,
                epochs=part,
                flops=phase.tokens * model.flops_per_token(phase.sequence_length) if known else 0.0,
                waste=padding,
            )
            for phase, asked, part, padding in zip(phases, config.phases, passes, waste, strict=True)
        ],
        parameters=model.parameter_count() if known else None,
        non_embedding_parameters=model.non_embedding_parameter_count(),
        epochs={name: sum(part.get(name, 0.0) for part in passes) for name in sizes},
    )


def resolved_phases(recipe: Recipe, stage: str, rope_theta: float) -> tuple[list[Phase], list[Phase]]:
    """Return (phases of the earlier stages whose training state this stage continues, phases of this stage).

    Steps are numbered from the first step of the first of these stages.
    """
    config = recipe.stages[stage]
    assert isinstance(config, PretrainConfig)
    if "state" not in config.inputs:
        return [], resolve(config, rope_theta)
    earlier, kept = resolved_phases(recipe, config.inputs["state"], rope_theta)
    return earlier + kept, resolve(config, kept[-1].rope_theta, kept[-1].end)


def source_sizes(recipe: Recipe, stage: str, done: dict[str, Artifact]) -> dict[str, float]:
    """Return the sizes in tokens of a pretrain stage's sources: measured if the tokenize stage has finished, otherwise
    as declared in the recipe."""
    producer = recipe.stages[stage].inputs.get("tokens", "")
    if producer in done:
        return {name: float(entry["tokens"]) for name, entry in done[producer].counts["sources"].items()}
    return {name: size for name, s in recipe.sources.items() if (size := s.size_in_tokens()) is not None}


def resolved(recipe: Recipe) -> str:
    """Return the recipe with all defaults filled in, as YAML that is itself a valid recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def show(
    recipe: Recipe, root: Path, console: Console, full_check: bool = False, whole: bool = True
) -> list[PretrainPlan]:
    """Print the plan and return the figures of its pretrain stages.

    `full_check`: whether to verify the digests of all finished artifacts. `whole`: whether the recipe was loaded
    without overrides; if so, all other artifacts in the run's folder are from earlier versions of the recipe, and are
    listed. Raises UserError as `plan_pretraining` and `verify` do.
    """
    done: dict[str, Artifact] = {}
    if not recipe.plan_only:
        run = Run(recipe, root)
        done = run.finished()
        check(recipe, [name for name in recipe.stages if name not in done])
        console.print(_stage_table(run, full_check))
        found = space.needed(run, run.states())
        style = "bold red" if found.too_little else "bold yellow" if found.close else None
        console.print(found.line(), style=style, highlight=False, soft_wrap=True)
        if whole and (others := left_over(run)):
            names = ", ".join(one.path.name for one in others)
            console.print(f"artifacts of other settings: {names}; `thinkling clean` lists their sizes", style="dim")
    plans = []
    for name, stage in recipe.stages.items():
        if isinstance(stage, PretrainConfig):
            tokens = done.get(stage.inputs.get("tokens", ""))
            shards = tokens.file("shards") if tokens else None
            plan = plan_pretraining(recipe, name, source_sizes(recipe, name, done), shards=shards)
            plans.append(plan)
            _print_pretraining(plan, recipe.hardware, console)
    show_memory(recipe, console)
    return plans


def _stage_table(run: Run, full_check: bool) -> Table:
    table = Table(title=f"{run.recipe.name}: stages", title_justify="left")
    states = list(run.states())
    longest = max((len(path.name) for _, _, path in states if path), default=0)
    for column in ("stage", "kind", "inputs", "state"):
        table.add_column(column, overflow="fold")
    # Keep the name of the artifact, which ends with its hash, on one line.
    table.add_column("artifact", overflow="fold", no_wrap=longest <= 40)
    for name, state, path in states:
        stage = run.recipe.stages[name]
        if state == "done" and full_check and path:
            verify(path, read_manifest(path))
            shown = "done, verified"
        else:
            shown = state
        inputs = ", ".join(stage.inputs.values()) or ", ".join(stage.source_names())
        table.add_row(name, stage.kind, inputs, shown, path.name if path and state != "waiting" else "")
    return table


def phase_tables(plan: PretrainPlan, width: int) -> list[Table]:
    """Return the phases of pre-training as one table, or as two tables if the terminal is too narrow."""
    steps = [f"{phase.batch_tokens:,}" for phase in plan.phases]
    cells: dict[str, list[str]] = {
        "phase": [phase.name for phase in plan.phases],
        "tokens": [f"{phase.tokens:,}" for phase in plan.phases],
        "steps": [f"{phase.steps:,}" for phase in plan.phases],
        "rows × length": [f"{phase.batch_size:,} × {phase.sequence_length:,}" for phase in plan.phases],
        **({"tokens per step": steps} if len(set(steps)) > 1 else {}),
        "learning rate": [_rate(phase) for phase in plan.phases],
        "RoPE base": [f"{phase.rope_theta:g}" for phase in plan.phases],
        "mixture (epochs)": [_mixture(phase) for phase in plan.phases],
    }
    widths = [max(len(line) for cell in (name, *values) for line in cell.split("\n")) for name, values in cells.items()]
    names = list(cells)
    whole = sum(widths) + 3 * len(widths) + 1 <= width
    split = names.index("learning rate")
    parts = [names] if whole else [names[:split], [names[0], *names[split:]]]
    tables = []
    for part in parts:
        table = Table(title=f"{plan.stage}: phases", title_justify="left")
        for name in part:
            text = name in ("phase", "mixture (epochs)")
            right = name in ("tokens", "steps", "tokens per step")
            table.add_column(name, justify="right" if right else "left", no_wrap=not text, overflow="fold")
        for row in zip(*(cells[name] for name in part), strict=True):
            table.add_row(*row)
        tables.append(table)
    return tables


def _rate(phase: PhasePlan) -> str:
    return f"{phase.lr_first:g}" if phase.lr_first == phase.lr_last else f"{phase.lr_first:g} → {phase.lr_last:g}"


def _mixture(phase: PhasePlan) -> str:
    return "\n".join(
        f"{name} {fraction:.1%}" + (f" ({phase.epochs[name]:.3f})" if name in phase.epochs else "")
        for name, fraction in phase.fractions.items()
    )


def _print_pretraining(plan: PretrainPlan, hardware: HardwareConfig, console: Console) -> None:
    for table in phase_tables(plan, console.width):
        console.print(table)
    console.print(f"  tokens {plan.tokens:,} in {plan.steps:,} steps", highlight=False)
    if plan.parameters is not None:
        console.print(
            f"  parameters {plan.parameters:,} ({short(plan.parameters)}), without embeddings "
            f"{plan.non_embedding_parameters:,} ({short(plan.non_embedding_parameters)})",
            highlight=False,
        )
        console.print(
            f"  training FLOPs {plan.flops:.4g}; {plan.gpu_hours(hardware):,.4g} GPU-hours on {hardware.name} "
            f"at an assumed MFU of {hardware.mfu:.0%} of {hardware.peak_flops:.3g} FLOP/s",
            highlight=False,
        )
    if plan.epochs:
        console.print("  total epochs: " + ", ".join(f"{n} {v:.3f}" for n, v in plan.epochs.items()), highlight=False)
    if plan.waste:
        console.print("  padding in rows: " + ", ".join(f"{n} {v:.1%}" for n, v in plan.waste.items()), highlight=False)
