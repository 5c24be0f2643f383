"""The verbs. Only configurations are imported here; a command loads torch and the rest inside its function."""

from __future__ import annotations

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkling import __version__
from thinkling.errors import UserError

if TYPE_CHECKING:
    from thinkling.pipeline.recipe import Recipe

app = typer.Typer(
    help="Trains small thinking models, from raw text to reinforcement learning and scores, by one recipe file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(help="Recipe file, for instance recipes/tiny.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field: --set stages.sft.epochs=2 (repeatable)"),
]
Root = Annotated[Path, typer.Option("--runs", help="Folder that holds all runs")]
RUNS = Path("runs")
MALLOC = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"), str(64 << 20))


@app.command()
def run(recipe: RecipeFile, overrides: Overrides = None, runs: Root = RUNS) -> None:
    """Run all stages of a recipe: what is done is skipped, what was cut off is resumed."""
    _execute(recipe, overrides, runs, None)


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    runs: Root = RUNS,
    verify: Annotated[bool, typer.Option(help="Digest every file of the finished artifacts again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures of pre-training as JSON")] = False,
) -> None:
    """Show what a run would do: stages and their state; tokens, epochs, steps, FLOPs and GPU-hours of pre-training."""
    from thinkling.pipeline import plan as planning
    from thinkling.pipeline.progress import result_console

    loaded = _load(recipe, overrides)
    plans = planning.show(loaded, runs, result_console(quiet=as_json), full_check=verify)
    if as_json:
        print(json.dumps([p.as_json(loaded.hardware) for p in plans], indent=1))


@app.command()
def doctor(recipe: Annotated[Path | None, typer.Argument(help="Also check what this recipe needs")] = None) -> None:
    """Check the machine: Python, packages, cores, memory, disk, devices. Exit 2 if something needed is missing."""
    from thinkling.pipeline import doctor as checks
    from thinkling.pipeline.progress import result_console

    if not checks.show(checks.examine(_load(recipe, None) if recipe else None), result_console()):
        raise typer.Exit(2)


class Experiment(StrEnum):
    """What `evidence` can run."""

    FG_WSD = "fg-wsd"
    DPD = "dpd"
    RL = "rl"


@app.command()
def evidence(
    experiment: Annotated[Experiment, typer.Argument(show_default=False)],
    seeds: Annotated[str | None, typer.Option(help="As in 0-7 or 0,3,5; by default those of the claims")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time, each a process of one thread")] = 1,
    recipe: Annotated[Path, typer.Option(help="The recipe that the arms derive from")] = Path("recipes/evidence.yaml"),
    runs: Root = RUNS,
    one_seed: Annotated[bool, typer.Option("--one-seed", hidden=True)] = False,
) -> None:
    """Compare ways of training, paired by seed, with intervals: fg-wsd, dpd or rl."""
    _fix_environment(1)
    from thinkling.pipeline.evidence import arms, gather, seed
    from thinkling.pipeline.evidence import experiment as experiments
    from thinkling.pipeline.progress import progress_console, result_console

    chosen = arms.EXPERIMENTS[experiment.value]
    wanted = list(chosen.seeds) if seeds is None else experiments.parse_seeds(seeds)
    if one_seed:
        seed.run_seed(chosen, recipe, wanted[0], runs, progress_console(), lambda line: print(line, flush=True))
        return
    found = experiments.run(chosen, recipe, wanted, jobs, runs, progress_console())
    from thinkling.report import evidence as drawing

    gather.show(found, result_console())
    written = drawing.write(seed.results_of(chosen, runs))
    progress_console().print(f"evidence: {written}", highlight=False, soft_wrap=True)


@app.command()
def chat(
    model: Annotated[Path, typer.Argument(help="Model directory, for instance runs/tiny/model", show_default=False)],
    prompt: Annotated[str | None, typer.Option(help="Answer this one message and end")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Talk to a model; its thinking and its tool calls are shown."""
    from thinkling.serve import chat as talk

    talk.converse(model, prompt, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)


def _stage_verb(kind: str) -> None:
    def verb(
        recipe: RecipeFile,
        stage: Annotated[str | None, typer.Option(help="One stage of this kind; all of them if not given")] = None,
        overrides: Overrides = None,
        runs: Root = RUNS,
    ) -> None:
        names = [n for n, s in _load(recipe, overrides).stages.items() if s.kind == kind]
        if not names:
            raise UserError(f"{recipe}: it has no stage of kind {kind}")
        if stage is not None and stage not in names:
            raise UserError(f"--stage {stage}: no stage of kind {kind} has this name; there are: {', '.join(names)}")
        _execute(recipe, overrides, runs, [stage] if stage else names)

    app.command(kind, help=f"Run the {kind} stages of a recipe, and the stages that they rest on.")(verb)


for _kind in ("curate", "tokenize", "pretrain", "refine", "sft", "dpd", "rl", "evaluate"):
    _stage_verb(_kind)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and end")] = False) -> None:
    if show:
        print(f"thinkling {__version__}")
        raise typer.Exit


def _load(path: Path, overrides: list[str] | None) -> Recipe:
    from thinkling.pipeline.recipe import load_recipe
    from thinkling.pipeline.without_sandbox import without_code

    return without_code(load_recipe(path, overrides))


def _execute(path: Path, overrides: list[str] | None, root: Path, targets: list[str] | None) -> None:
    began = time.monotonic()
    recipe = _load(path, overrides)
    _fix_environment(recipe.threads)
    from thinkling.pipeline import runner, summary
    from thinkling.pipeline.progress import progress_console, result_console

    console = progress_console()
    this = runner.Run(recipe, root)
    console.print(
        f"{recipe.name}: seed {recipe.seed}, {recipe.threads} of {os.cpu_count()} CPU threads, into {this.directory}",
        highlight=False,
    )
    runner.execute(this, console, targets)
    if int(os.environ.get("RANK", "0")) == 0:
        from thinkling.report import page

        summary.show(summary.write(this, time.monotonic() - began), result_console())
        written = page.write(this.directory, {name: artifact.path for name, artifact in this.finished().items()})
        console.print(f"report: {written}", highlight=False, soft_wrap=True)


def _fix_environment(threads: int) -> None:
    """Starts this process again where the hash seed or the thread count is not what exact repetition needs.

    Both are read once, when the interpreter and the numeric libraries load; so is what malloc does with freed memory:
    it keeps it, which saves a training step of a small model 3–6% (docs/LAB.md).
    """
    wanted = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **MALLOC}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.execv(sys.executable, [sys.executable, "-m", "thinkling", *sys.argv[1:]])


def main() -> None:
    """Entry point: a user's mistake is told in a line and ends with 2; anything else is our bug, with its traceback."""
    try:
        app()
    except UserError as error:
        print(f"thinkling: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("thinkling: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
