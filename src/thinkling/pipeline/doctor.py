"""Whether this machine can run a recipe: what is there, what is missing, and the cure."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from thinkling.pipeline.recipe import Recipe

Level = Literal["ok", "note", "missing"]
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


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` makes the doctor's exit code 2."""

    what: str
    level: Level
    detail: str


def examine(recipe: Recipe | None) -> list[Finding]:
    """Looks at the machine, and at what a recipe needs of it."""
    findings = [_python(), *_packages(), _cores(recipe), _memory(), _disk(), *_devices()]
    if recipe is not None:
        findings += [_sandbox(recipe), *_recipe(recipe)]
    return findings


def show(findings: list[Finding], console: Console) -> bool:
    """Prints the findings; True if nothing needed is missing."""
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
    detail = f"{platform.python_version()} on {sys.platform}" + ("" if right else "; thinkling needs ≥ 3.11 on Linux")
    return Finding("python", "ok" if right else "missing", detail)


def _packages() -> list[Finding]:
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return [Finding("packages", "missing", f"{', '.join(absent)}: pip install thinkling")]
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
    detail = f"{usable} usable, load {load:.1f}" + (f", the recipe wants {threads} threads" if recipe else "")
    if threads > usable:
        return Finding(
            "cores", "note", detail + "; more threads than cores is many times slower: --set threads=" + str(usable)
        )
    if load + threads > usable + 1:
        return Finding("cores", "note", detail + "; the machine is busy, expect it to be slower")
    return Finding("cores", "ok", detail)


def _memory() -> Finding:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) / 1e6
    return Finding(
        "memory", "ok" if free > 4 else "note", f"{free:.1f} GB available; recipes/tiny.yaml takes under 3 GB"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    return Finding("disk", "ok" if free > 1 else "note", f"{free:.1f} GB free here")


def _devices() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    if not torch.cuda.is_available():
        return [Finding("devices", "ok", "no CUDA device: everything runs on the CPU")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [Finding("devices", "ok", ", ".join(names))]


def _sandbox(recipe: Recipe) -> Finding:
    from thinkling.sandbox import packages
    from thinkling.sandbox.kernel import missing_feature

    lacking, wanting = missing_feature(), recipe.judging()
    if names := packages.missing(recipe.packages()):
        return Finding("sandbox", "missing", f"sandbox.packages: not installed: {', '.join(names)}; pip install them")
    if lacking is None:
        imported = f", and import {', '.join(recipe.packages())}" if recipe.packages() else ""
        return Finding("sandbox", "ok", f"programs that a model wrote can be confined{imported}")
    if wanting and recipe.sandbox == "none":
        return Finding("sandbox", "note", f"{lacking}; skipped: {', '.join(recipe.skipped())}")
    if wanting:
        return Finding("sandbox", "missing", f"{lacking}; {', '.join(wanting)} need it: or --set sandbox=none")
    return Finding("sandbox", "ok", f"{lacking}; no stage of the recipe needs it")


def _recipe(recipe: Recipe) -> list[Finding]:
    from thinkling.errors import UserError

    findings = []
    for name, source in recipe.sources.items():
        try:
            if (summary := source.summary()) is not None:
                findings.append(Finding(f"source {name}", "ok", summary))
        except UserError as error:
            findings.append(Finding(f"source {name}", "missing", str(error)))
    if recipe.plan_only:
        findings.append(Finding("recipe", "note", "plan only: its sources are not on this machine"))
    elif all(finding.level == "ok" for finding in findings):
        findings += wrong_templates(recipe)
    return findings


def wrong_templates(recipe: Recipe) -> list[Finding]:
    """Stages whose model, one of the user's, has no chat template that renders."""
    from thinkling.pipeline.chats import wrong_chats

    return [Finding("chat template", "missing", line) for line in wrong_chats(recipe, recipe.stages)]
