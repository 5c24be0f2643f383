"""The `doctor` command: check whether this machine can run a recipe, and report missing requirements and cures."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from thinkling.errors import UserError
from thinkling.pipeline import space
from thinkling.pipeline.checks import wrong
from thinkling.pipeline.devices import devices, precision
from thinkling.pipeline.finding import Finding, Level
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.runner import Run
from thinkling.sandbox.kernel import missing_feature

NEEDED = (
    "torch",
    "numpy",
    "pyarrow",
    "tokenizers",
    "safetensors",
    "pydantic",
    "typer",
    "rich",
    "yaml",
    "jinja2",
    "math_verify",
    "huggingface_hub",
)


def examine(recipe: Recipe | None, root: Path = Path("runs")) -> list[Finding]:
    """Check this machine and, if there is a recipe, the requirements of the recipe. `root`: the folder of all runs."""
    findings = [_python(), *_packages(), _cores(recipe), _memory(), *devices(recipe)]
    if recipe is None:
        return [*findings, _disk(root)]
    found = _recipe(recipe)
    missing = recipe.plan_only or any(finding.level == "missing" for finding in found)
    disk = _disk(root) if missing else _space(recipe, root)
    return [*findings, disk, *_sandbox(recipe), *precision(recipe), *found]


def show(findings: list[Finding], console: Console) -> bool:
    """Print the findings. Return True if nothing required is missing."""
    table = Table(title="doctor", title_justify="left")
    table.add_column("what")
    table.add_column("")
    table.add_column("detail", overflow="fold")
    for finding in findings:
        style = {"ok": "green", "note": "yellow", "missing": "red"}[finding.level]
        table.add_row(finding.what, f"[{style}]{finding.level}[/]", finding.detail)
    console.print(table)
    return all(finding.level != "missing" for finding in findings)


def _python() -> Finding:
    right = sys.version_info >= (3, 11) and sys.platform == "linux"
    detail = f"{platform.python_version()} on {sys.platform}"
    detail += "" if right else "; thinkling needs Python 3.11 or later on Linux"
    return Finding("python", "ok" if right else "missing", detail)


def _packages() -> list[Finding]:
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return [Finding("packages", "missing", f"{', '.join(absent)} not installed: pip install thinkling")]
    from importlib.metadata import version

    return [
        Finding(
            "packages",
            "ok",
            f"torch {version('torch')}, tokenizers {version('tokenizers')}, pyarrow {version('pyarrow')}",
        )
    ]


def _cores(recipe: Recipe | None) -> Finding:
    usable, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    threads = recipe.threads if recipe else 1
    detail = f"{usable} usable, load {load:.1f}" + (f", the recipe uses {threads} threads" if recipe else "")
    if threads > usable:
        return Finding(
            "cores",
            "note",
            detail + "; more threads than cores make a run much slower: --set threads=" + str(usable),
        )
    if load + threads > usable + 1:
        return Finding("cores", "note", detail + "; the machine is busy, so runs will be slower")
    return Finding("cores", "ok", detail)


def _memory() -> Finding:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) / 1e6
    return Finding(
        "memory", "ok" if free > 4 else "note", f"{free:.1f} GB available; the recipe `tiny` needs less than 3 GB"
    )


def _disk(root: Path) -> Finding:
    free = space.free(root)
    return Finding("disk", "ok" if free > 1e9 else "note", f"{space.shown(free)} free in {root}")


def _space(recipe: Recipe, root: Path) -> Finding:
    """Check the disk space for the unfinished stages. Call this only if all sources and models can be read."""
    run = Run(recipe, root)
    try:
        found = space.needed(run, run.states())
    except UserError as error:
        return Finding("disk", "missing", str(error))
    level: Level = "missing" if found.too_little else "note" if found.close else "ok"
    return Finding("disk", level, found.line().removeprefix("disk: "))


def _sandbox(recipe: Recipe) -> list[Finding]:
    """Report the state of the sandbox, unless `checks` reports a missing sandbox as a mistake."""
    lacking = missing_feature()
    if lacking is None:
        imported = f" and can import {', '.join(recipe.packages())}" if recipe.packages() else ""
        return [Finding("sandbox", "ok", f"model-written programs run in the sandbox{imported}")]
    if recipe.skipped():
        return [Finding("sandbox", "note", f"{lacking}; skipped: {', '.join(recipe.skipped())}")]
    return [] if recipe.judging() else [Finding("sandbox", "ok", f"{lacking}; no stage of the recipe needs it")]


def _recipe(recipe: Recipe) -> list[Finding]:
    """Report the recipe's sources and every mistake that would stop `run`."""
    if recipe.plan_only:
        return [Finding("recipe", "note", "can only be planned, because its sources are not on this machine")]
    findings = []
    for name, source in recipe.sources.items():
        try:
            if (summary := source.summary()) is not None:
                findings.append(Finding(f"source {name}", "ok", summary))
        except UserError as error:
            findings.append(Finding(f"source {name}", "missing", str(error)))
    unread = {finding.what for finding in findings if finding.level == "missing"}
    found = [Finding(what, "missing", line) for what, line in wrong(recipe, list(recipe.stages)) if what not in unread]
    return findings + list(dict.fromkeys(found))
