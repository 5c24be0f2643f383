"""The commands. Only configurations are imported at module level; each command imports all other modules, including
torch, inside its function."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkling import __version__
from thinkling.cli_group import START, Verbs
from thinkling.errors import UserError

if TYPE_CHECKING:
    from thinkling.pipeline.recipe import Recipe

STAGES = {
    "curate": "Curate raw text: remove duplicates and held-out problems, grade documents, split them by quality.",
    "tokenize": "Train a tokenizer or use an existing one, and write documents as token shards.",
    "pretrain": "Train a base model on tokens, in phases with their own mixture and learning rate.",
    "refine": "Generate training conversations from problems: draft, critique and revise solutions.",
    "sft": "Fine-tune a model on conversations.",
    "dpd": "Train on preference pairs: sampled from a teacher and the student, or read from a source.",
    "rl": "Train a model on verifiable problems, by GRPO.",
    "evaluate": "Score a model on held-out problems, by avg@k with intervals.",
}
"""Kind of stage → first sentence of the help text of its command."""


class _Verbs(Verbs):
    resumable = frozenset({"run", *STAGES})


app = typer.Typer(
    cls=_Verbs,
    help="Train small reasoning models, from raw text to reinforcement learning and evaluation, with one recipe file.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[
    Path,
    typer.Argument(help="Recipe file, or the name of a packaged recipe, such as tiny", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a recipe field: --set stages.sft.epochs=2 (repeatable)"
    ),
]
RunFolder = Annotated[
    str, typer.Argument(help="Folder of a run, such as runs/tiny, or the run's name", show_default=False)
]
Root = Annotated[Path, typer.Option("--runs", help="Folder that contains all runs")]
RUNS = Path("runs")


@app.command()
def run(recipe: RecipeFile, overrides: Overrides = None, runs: Root = RUNS) -> None:
    """Run all stages of a recipe. Finished stages are skipped, and interrupted stages are resumed.

    Example: thinkling run tiny --set seed=1"""
    _execute(recipe, overrides, runs, None)


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    runs: Root = RUNS,
    verify: Annotated[bool, typer.Option(help="Hash every file of the finished artifacts again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures of pre-training as JSON")] = False,
    resolved: Annotated[bool, typer.Option(help="Print the recipe with all defaults, as YAML")] = False,
) -> None:
    """Show what a run would do: the state of each stage, the tokens, steps and GPU-hours of pre-training, and the
    predicted memory of training.

    Nothing is run. The command reports mistakes in the recipe, missing files, and requirements that this machine does
    not meet.

    Example: thinkling plan my.yaml --resolved"""
    from thinkling.pipeline import plan as planning
    from thinkling.pipeline.progress import result_console

    loaded = _load(recipe, overrides)
    if resolved:
        print(planning.resolved(loaded), end="")
        return
    plans = planning.show(loaded, runs, result_console(quiet=as_json), full_check=verify, whole=not overrides)
    if as_json:
        print(json.dumps([p.as_json(loaded.hardware) for p in plans], indent=1))


@app.command()
def doctor(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe whose requirements are checked too")] = None,
    overrides: Overrides = None,
    runs: Root = RUNS,
) -> None:
    """Check this machine and, if a recipe is given, its files, models, templates, verifiers, tools, extras and disk
    space.

    Nothing is run. The exit code is 2 if a requirement is not met.

    Example: thinkling doctor my.yaml --set sources.start.path=models/mine"""
    from thinkling.pipeline import doctor as checks
    from thinkling.pipeline.progress import result_console

    findings = checks.examine(_load(recipe, overrides) if recipe else None, runs)
    if not checks.show(findings, result_console()):
        raise typer.Exit(2)


@app.command()
def tokens(
    recipe: RecipeFile,
    stage: Annotated[
        str | None, typer.Option(help="Stage of kind sft; optional if the recipe has only one such stage")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of conversations to show, from each source in turn")] = 3,
    overrides: Overrides = None,
    runs: Root = RUNS,
    width: Annotated[
        int | None, typer.Option(min=20, help="Columns of the output; by default, the terminal's width")
    ] = None,
) -> None:
    """Show the conversations of an sft stage token by token, and which tokens carry loss, before anything is trained.

    Only the inputs of the stage must exist: its model and, if the recipe sets it, the input `conversations`.

    Example: thinkling tokens my.yaml --n 1
    """
    from rich.console import Console

    from thinkling.pipeline import tokens as showing

    console = Console(width=width, soft_wrap=width is None, highlight=False)
    showing.show(_load(recipe, overrides), runs, stage, n, console)


@app.command()
def chat(
    model: Annotated[
        str, typer.Argument(help="Model directory, such as runs/tiny/model, or a name on the hub", show_default=False)
    ],
    prompt: Annotated[str | None, typer.Option(help="Answer this message and exit")] = None,
    system: Annotated[str | None, typer.Option(help="System message of the conversation")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    template: Annotated[str, typer.Option(help="Chat template: own, thinkling, or a .jinja file")] = "own",
    var: Annotated[list[str] | None, typer.Option(help="Template variable, NAME=VALUE (repeatable)")] = None,
) -> None:
    """Chat with a model and show its reasoning and tool calls.

    Example: thinkling chat runs/tiny/model --prompt "calc 12*34\""""
    from thinkling.generate.config import chat_of_options
    from thinkling.generate.engine import Sampling
    from thinkling.serve import chat as talk

    talk.converse(
        model,
        prompt,
        system,
        Sampling(temperature, top_p),
        max_new_tokens=max_new_tokens,
        seed=seed,
        chat=chat_of_options(template, var or []),
    )


@app.command()
def export(
    run: Annotated[
        str, typer.Argument(help="Folder of a run, such as runs/tiny, or the run's name", show_default=False)
    ],
    stage: Annotated[str, typer.Argument(help="Stage of the run that trains a model", show_default=False)],
    step: Annotated[
        str | None,
        typer.Option(help="Checkpoint of an unfinished stage: the number of completed steps, `last` or `best`"),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="New or empty directory to write to; by default, RUN-STAGE in the current directory"),
    ] = None,
    runs: Root = RUNS,
) -> None:
    """Write a stage's model as a Hugging Face directory that transformers and vLLM can load.

    If the stage has finished, the command copies its model. If the stage is running or was killed, use --step to select
    a checkpoint. The run is not changed.

    Example: thinkling export tiny sft --to my-model"""
    from thinkling.pipeline import export as exporting

    found, target = exporting.export(run, stage, step, to, runs)
    print(f"{found.origin} → {target}")
    if found.note:
        print(f"thinkling: {found.note}", file=sys.stderr)


@app.command()
def init(
    kind: Annotated[str, typer.Argument(help="sft, rl, posttrain, pretrain or curate", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Model to start from: a Hugging Face directory, or a name on the hub")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="File or folder of chats, preference pairs, problems or text (repeatable)"),
    ] = None,
    heldout: Annotated[str | None, typer.Option(help="File of held-out problems, used only for evaluation")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Recipe file to write; it must not exist")] = Path(
        "my.yaml"
    ),
) -> None:
    """Write a commented recipe for your model and data; the format of the data is detected.

    Example: thinkling init sft --model models/SmolLM2-135M --data chats.jsonl -o my.yaml"""
    from thinkling.pipeline import init as writing

    for line in writing.write(kind, model, data or [], heldout, output):
        print(line)


@app.command()
def fields(
    kind: Annotated[str | None, typer.Argument(help="Kind of stage, type of source, or recipe")] = None,
    markdown: Annotated[bool, typer.Option(help="Print all kinds with their fields, as a Markdown page")] = False,
) -> None:
    """Show the fields of a recipe with their types, defaults, meanings and units.

    Example: thinkling fields sft"""
    from thinkling.pipeline import fields as showing

    lines = showing.page() if markdown else showing.overview() if kind is None else showing.describe(kind)
    print("\n".join(lines))


@app.command()
def clean(
    recipe: RecipeFile,
    overrides: Overrides = None,
    runs: Root = RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the listed artifacts")] = False,
) -> None:
    """List artifacts of the run that are no longer part of the recipe, with their sizes; with --yes, delete them.

    Pass the same --set options as to `thinkling run`, because artifacts that were written with other settings are
    listed too.

    Example: thinkling clean my.yaml --yes"""
    from thinkling.pipeline import clean as cleaning
    from thinkling.pipeline.progress import result_console
    from thinkling.pipeline.runner import Run

    cleaning.clean(Run(_load(recipe, overrides), runs), yes, result_console())


@app.command()
def explain(
    run: RunFolder,
    identity: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Id of a document, problem or conversation, or a unique beginning or end of the id",
            show_default=False,
        ),
    ],
    text: Annotated[
        bool, typer.Option("--text", help="Print texts in full instead of clipping them to the terminal's width")
    ] = False,
    runs: Root = RUNS,
) -> None:
    """Show what happened to one document, problem or conversation, stage by stage.

    Shows grades, duplicates, drafts, verdicts, rewards, and the reason if the record was rejected. The run may be
    unfinished.

    Example: thinkling explain nano topics/assert"""
    from thinkling.pipeline import explain as explaining
    from thinkling.pipeline.export import run_directory
    from thinkling.pipeline.progress import result_console

    explaining.explain(run_directory(run, runs), identity, text, result_console())


@app.command()
def show(
    run: RunFolder,
    stage: Annotated[str, typer.Argument(help="Stage of the run", show_default=False)],
    reason: Annotated[
        str | None, typer.Option(help="Show only rejected records whose reason contains this text")
    ] = None,
    n: Annotated[
        int, typer.Option("--n", min=0, help="Number of records of each kind; 0 prints counts by reason instead")
    ] = 3,
    rejected: Annotated[bool, typer.Option("--rejected", help="Show only rejected records")] = False,
    source: Annotated[str | None, typer.Option(help="Show only records of this source, family or task set")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed that selects the records")] = 0,
    runs: Root = RUNS,
) -> None:
    """Show what a stage wrote or rejected: documents, conversations, problems, rollouts, pairs and scores.

    Example: thinkling show nano curate --reason duplicate"""
    from thinkling.pipeline import show as showing
    from thinkling.pipeline.export import run_directory
    from thinkling.pipeline.progress import result_console

    choice = showing.Choice(rejected, reason, source)
    showing.show(run_directory(run, runs), stage, choice, n, seed, result_console())


def _stage_verb(kind: str, purpose: str) -> None:
    def verb(
        recipe: RecipeFile,
        stage: Annotated[
            str | None, typer.Option(help="Name of one stage of this kind; by default, all of them are run")
        ] = None,
        overrides: Overrides = None,
        runs: Root = RUNS,
    ) -> None:
        names = [n for n, s in _load(recipe, overrides).stages.items() if s.kind == kind]
        if not names:
            raise UserError(f"{recipe}: the recipe has no stage of kind {kind}; add one, or use a different recipe")
        if stage is not None and stage not in names:
            raise UserError(f"--stage {stage}: no stage of kind {kind} has this name; choose one of {', '.join(names)}")
        _execute(recipe, overrides, runs, [stage] if stage else names)

    example = f"Example: thinkling {kind} my.yaml"
    about = (
        f"Runs the recipe's stages of kind {kind} and the stages that they depend on; --stage selects a single stage."
    )
    app.command(kind, help=f"{purpose}\n\n{about}\n\n{example}")(verb)


for _kind, _purpose in STAGES.items():
    _stage_verb(_kind, _purpose)


@app.callback()
def start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit")] = False,
) -> None:
    if version:
        print(f"thinkling {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(START)


def _load(path: Path, overrides: list[str] | None) -> Recipe:
    from thinkling.pipeline.packaged import find
    from thinkling.pipeline.recipe import load_recipe

    return load_recipe(find(path), overrides)


def _execute(path: Path, overrides: list[str] | None, root: Path, targets: list[str] | None) -> None:
    began = time.monotonic()
    recipe = _load(path, overrides)
    from thinkling.pipeline.environment import fix_environment

    fix_environment(recipe.threads)
    from thinkling.pipeline import runner, summary
    from thinkling.pipeline.disk import disk_is_full
    from thinkling.pipeline.progress import progress_console, result_console

    console = progress_console()
    this = runner.Run(recipe, root)
    console.print(
        f"{recipe.name}: seed {recipe.seed}, {recipe.threads} of {os.cpu_count()} CPU threads, into {this.directory}",
        highlight=False,
    )
    try:
        runner.execute(this, console, targets)
    except Exception as error:
        told = disk_is_full(error, this.directory)
        if told is None:
            raise
        raise UserError(told) from error
    if int(os.environ.get("RANK", "0")) == 0:
        from thinkling.report import page

        named = recipe.name if root == RUNS else str(this.directory)
        summary.show(summary.write(this, time.monotonic() - began), result_console(), named)
        written = page.write(this.directory, {name: artifact.path for name, artifact in this.finished().items()})
        console.print(f"report: {written}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point. A user's mistake is reported in one line, with exit code 2. Any other exception is a bug in
    thinkling, and its traceback is printed."""
    try:
        app()
    except UserError as error:
        print(f"thinkling: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("thinkling: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
