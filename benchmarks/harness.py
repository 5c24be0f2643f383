"""Measures the claims of one number and writes benchmarks/results/NUMBER.json.

`python -m benchmarks.harness A9` (or `make bench NAME=A9`, `all` for every number) runs the commands of the claims A9a,
A9b, …; each prints, as its last line, `{"measurements": {"A9a": {"value", "low", "high", "n", "runs", "unit"}, …}}`.
The harness, not the script, decides whether the bar is met. `--table` prints stored results as Markdown.
Exit status 1: some claim was not measured. A missed bar is a result, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.claims import (
    Claim,
    Claims,
    Measurement,
    Payload,
    Result,
    Results,
    first_error,
    holds,
    load_claims,
    load_results,
)
from thinkling.errors import UserError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def run_command(command: str, root: Path) -> dict[str, Measurement]:
    """Runs a script with this interpreter, passes its output on, and reads the last line.

    Raises UserError where it fails or ends without measurements.
    """
    python, *arguments = shlex.split(command)
    assert python == "python"
    last = ""
    with subprocess.Popen([sys.executable, *arguments], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                if last:
                    print(last, flush=True)
                last = line.rstrip("\n")
    if process.returncode != 0:
        print(last, flush=True)
        raise UserError(f"{command}: exit status {process.returncode}")
    try:
        return Payload.model_validate_json(last).measurements
    except ValidationError as error:
        raise UserError(f"{command}: no measurements on its last line ({first_error(error)})") from None


def measure(claims: Sequence[Claim], root: Path, console: Console) -> dict[str, Measurement]:
    """Claim id → measurement, for those of `claims` that could be measured; complaints go to the console."""
    wanted = {claim.id: claim for claim in claims}
    found: dict[str, Measurement] = {}
    for command in dict.fromkeys(claim.command for claim in claims):
        console.print(f"{command}", style="bold", highlight=False)
        try:
            measured = run_command(command, root)
        except UserError as error:
            console.print(str(error), style="red", highlight=False)
            continue
        for name, measurement in measured.items():
            claim = wanted.get(name)
            if claim is None or claim.command != command:
                console.print(f"{command}: measured {name}, which is not a claim of this command", style="red")
            elif measurement.unit != claim.unit:
                console.print(f"{name}: measured in {measurement.unit}, claimed in {claim.unit}", style="red")
            else:
                found[name] = measurement
    return found


def as_results(claims: Sequence[Claim], measured: Mapping[str, Measurement], commit: str, machine: str) -> Results:
    """Measurements with the bar, its verdict and where they were made, in the order of the claims."""
    entries = [
        Result(
            id=claim.id,
            value=one.value,
            low=one.low,
            high=one.high,
            n=one.n,
            runs=one.runs,
            unit=one.unit,
            bar=claim.bar,
            holds=holds(claim, one),
            commit=commit,
            machine=machine,
            command=claim.command,
        )
        for claim in claims
        if (one := measured.get(claim.id)) is not None
    ]
    details = {name: one.__pydantic_extra__ for name, one in measured.items() if one.__pydantic_extra__}
    return Results(claims=tuple(entries), details=details)


def write_results(path: Path, results: Results) -> None:
    """Overwrites the file in one step. A claim is a line: a changed one is a line's diff."""
    content = results.model_dump(mode="json")
    claims = ",\n".join(f"    {json.dumps(claim, ensure_ascii=False)}" for claim in content["claims"])
    details = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(detail, ensure_ascii=False)}"
        for name, detail in content["details"].items()
    )
    text = f'{{\n  "claims": [\n{claims}\n  ],\n  "details": {{\n{details}\n  }}\n}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def show(claims: Sequence[Claim], results: Mapping[str, Result], console: Console) -> None:
    """Draws claims and their results."""
    table = Table(show_lines=False)
    for heading in ("claim", "statement", "bar", "measured", "interval", "n", ""):
        table.add_column(heading, overflow="fold")
    for claim in claims:
        result = results.get(claim.id)
        style = "yellow" if result is None else "green" if result.holds else "red"
        table.add_row(*_cells(claim, result), style=style)
    console.print(table)


def markdown(claims: Sequence[Claim], results: Mapping[str, Result]) -> str:
    """The table of claims for README and docs."""
    lines = ["| claim | statement | peer | bar | measured | interval | n | result |", "| --- " * 8 + "|"]
    for claim in claims:
        name, statement, *rest = _cells(claim, results.get(claim.id))
        if claim.superseded_by is not None:
            rest[-1] += f" (superseded by {claim.superseded_by})"
        cells = [name, statement, claim.peer or "–", *rest]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cells(claim: Claim, result: Result | None) -> list[str]:
    bar = f"stated, {claim.unit}" if claim.bar is None else f"{_sign(claim)} {_figure(claim.bar)} {claim.unit}"
    if result is None:
        return [claim.id, claim.statement, bar, "–", "–", "–", "not measured"]
    interval = "–" if result.low is None or result.high is None else f"{_figure(result.low)}–{_figure(result.high)}"
    verdict = "holds" if result.holds else "missed"
    return [claim.id, claim.statement, bar, _figure(result.value), interval, str(result.n), verdict]


def _sign(claim: Claim) -> str:
    return {"<=": "≤", ">=": "≥", "==": "=", "interval_above": "interval >"}.get(claim.operator, claim.operator)


def _figure(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() and abs(number) < 1e15 else f"{number:.3g}"


def select(claims: Claims, name: str) -> list[str]:
    """The numbers that NAME stands for: `A9`, `A9a` (its whole number is measured) or `all` that still stand."""
    if name == "all":
        return [number for number in claims.numbers() if not all(claim.superseded_by for claim in claims.of(number))]
    numbers = [claim.number for claim in claims.claims if name in (claim.id, claim.number)]
    if not numbers:
        raise UserError(f"NAME={name}: no such claim; there are {', '.join(claims.numbers())} and all")
    return numbers[:1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.harness", description="Measure the claims of claims.yaml.")
    parser.add_argument("name", nargs="?", default=None, help="A9, or all")
    parser.add_argument("--table", action="store_true", help="print stored results as Markdown, measure nothing")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        claims = load_claims(HERE / "claims.yaml")
        if options.table:
            numbers = claims.numbers() if options.name is None else select(claims, options.name)
            wanted = [claim for claim in claims.claims if claim.number in numbers]
            print(markdown(wanted, load_results(RESULTS, numbers)))
            return 0
        if options.name is None:
            raise UserError("say which claims: A9, or all")
        return bench(claims, select(claims, options.name), machine.ROOT, RESULTS, console)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def together(claims: Claims, numbers: Sequence[str]) -> list[list[str]]:
    """The numbers, each with those that share a command with it: what is measured in one go."""
    parts: list[list[str]] = []
    for number in numbers:
        if not any(number in part for part in parts):
            commands = {claim.command for claim in claims.of(number)}
            parts.append([n for n in claims.numbers() if commands & {claim.command for claim in claims.of(n)}])
    return parts


def bench(claims: Claims, numbers: Sequence[str], root: Path, folder: Path, console: Console) -> int:
    """Measures, writes and draws each number. Returns 1 where some claim went unmeasured."""
    status = 0
    for part in together(claims, numbers):
        commit, where = machine.commit(root), machine.describe()
        measured = measure([claim for number in part for claim in claims.of(number)], root, console)
        for number in part:
            group = claims.of(number)
            results = as_results(group, measured, commit, where)
            if results.claims:  # otherwise what was measured earlier stays
                write_results(folder / f"{number}.json", results)
            show(group, {result.id: result for result in results.claims}, console)
            if len(results.claims) < len(group):
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
