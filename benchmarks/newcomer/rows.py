"""newcomer.rows: what a new user stumbled over, and whether it still happens.

    python -m benchmarks.newcomer.rows [--only ID …] [--list]

rows.yaml holds a row for every stumble, with its severity and a check. `tests` are node ids of pytest that show that it
no longer happens: all have to pass, and a test that is skipped or not there shows nothing. `commands` are given in a
folder of their own that holds a model, chats, problems and texts, one after the other. `pages` are files of the
repository, and `report` is the report of a run of nano, as one sees it before anything is opened. What a command
prints, or a page holds, has to match each regular expression of `says` and none of `lacks`.

A row with `later` waits for another piece of work, and one with `disputed` is argued there (3 at most); both are left
out of the value. Rows that still happen are printed on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.machine import ROOT
from benchmarks.newcomer import early

MOST_DISPUTED = 3
WORKERS = 2


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Strict):
    """What a text has to say, and what it must not, as regular expressions. White space counts as one blank."""

    says: list[str] = []
    lacks: list[str] = []

    def wrong(self, text: str) -> str:
        flat = " ".join(text.split())
        missing = [one for one in self.says if not re.search(one, flat)]
        unwanted = [one for one in self.lacks if re.search(one, flat)]
        return "; ".join([f"does not say {one!r}" for one in missing] + [f"says {one!r}" for one in unwanted])


class Command(Text):
    """Something to be given in the row's folder."""

    run: str
    """`thinkling …` or `make …`; the latter in the repository."""
    status: int = 0
    writes: list[str] = []
    """Files that are there afterwards."""
    environment: dict[str, str] = {}


class Row(_Strict):
    """A stumble."""

    id: str
    severity: int = Field(ge=1, le=3)
    """1: stops the job, or a silently wrong result. 2: costs hours or money, or trust. 3: annoys."""
    fault: str
    """What happened."""
    later: str | None = None
    disputed: str | None = None
    recipe: str | None = None
    """One of early.yaml's sound recipes, written as recipe.yaml; `set`: dotted field → value, `damage`: as there."""
    set: dict[str, Any] = {}
    damage: str | None = None
    tests: list[str] = []
    commands: list[Command] = []
    pages: dict[str, Text] = {}
    report: Text | None = None

    @model_validator(mode="after")
    def _has_a_check(self) -> Row:
        checked = bool(self.tests or self.commands or self.pages or self.report)
        assert checked == (self.later is None), "a row needs a check, or says what it waits for"
        return self


def read() -> list[Row]:
    rows = [Row.model_validate(row) for row in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))]
    assert len({row.id for row in rows}) == len(rows), "an id is given twice"
    assert sum(row.disputed is not None for row in rows) <= MOST_DISPUTED
    return rows


def prepare(folder: Path) -> None:
    """What a user brings: early.py's model, chats and problems, and the same in the other common forms."""
    early.prepare(folder)
    pairs = [(f"What is {a} plus {b}?", str(a + b)) for a in range(10, 20) for b in range(10)]
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in pairs]
    early.write_lines(folder / "sharegpt.jsonl", [{"conversations": one} for one in turns])
    early.write_lines(folder / "alpaca.jsonl", [{"instruction": q, "input": "", "output": a} for q, a in pairs])
    early.write_lines(folder / "gsm8k.jsonl", [{"question": q, "answer": f"a sum\n#### {a}"} for q, a in pairs])
    early.write_lines(folder / "thinking.jsonl", [early.REASONED] * 20)
    (folder / "texts" / "deep").mkdir(parents=True)
    for number in range(20):
        words = " ".join(f"word{(number * step) % 97}" for step in range(120))
        place = folder / "texts" / ("deep" if number % 2 else "") / f"text-{number}.txt"
        place.write_text(f"{words}.\n", encoding="utf-8")
    shutil.copy(folder / "texts" / "text-0.txt", folder / "texts" / "text-0-again.txt")


def make_folder(row: Row, sound: Path, folder: Path, recipes: Mapping[str, Any]) -> None:
    shutil.copytree(sound, folder)
    if row.recipe is not None:
        recipe = early.edited(recipes[row.recipe], row.set)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    if row.damage is not None:
        early.DAMAGES[row.damage](folder)


def environment() -> dict[str, str]:
    """A user's without network, with this repository's package."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "MAKEFLAGS")}
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}


def wrong_command(command: Command, folder: Path) -> str:
    """What is wrong with what a command does, or nothing."""
    program, *arguments = shlex.split(command.run)
    words = [sys.executable, "-m", "thinkling", *arguments] if program == "thinkling" else [program, *arguments]
    done = subprocess.run(
        words,
        cwd=ROOT if program == "make" else folder,
        env=environment() | command.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    reasons = [f"exit status {done.returncode}"] if done.returncode != command.status else []
    reasons += ["a traceback"] if "Traceback (most recent call last)" in done.stderr else []
    reasons += [f"does not write {name}" for name in command.writes if not list(folder.glob(name))]
    reasons += [reason] if (reason := command.wrong(done.stdout + done.stderr)) else []
    if not reasons:
        return ""
    return f"`{command.run}`: {'; '.join(reasons)}; it ends {(done.stdout + done.stderr).strip()[-300:]!r}"


def wrong_commands(row: Row, sound: Path, work: Path, recipes: Mapping[str, Any]) -> list[str]:
    """Of the first command that is wrong; those after it rest on it."""
    if not row.commands:
        return []
    folder = work / row.id
    make_folder(row, sound, folder, recipes)
    found = next((reason for one in row.commands if (reason := wrong_command(one, folder))), "")
    shutil.rmtree(folder)
    return [found] if found else []


class Visible(HTMLParser):
    """The text of a page as it is first seen: what `<details>` without `open` hide is left out, their summaries not."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("details", "summary", "style"):
            self.open.append((tag, tag == "details" and "open" in dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        own = self.open[:-2] if self.open and self.open[-1][0] == "summary" else self.open
        if all(shown for _, shown in own):
            self.text.append(data)


def visible(page: str) -> str:
    parser = Visible()
    parser.feed(page)
    return " ".join(parser.text)


def nano_report(folder: Path) -> str:
    """The report of a run of nano."""
    folder.mkdir()
    command = [sys.executable, "-m", "thinkling", "run", "nano"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    return (folder / "runs" / "nano" / "report.html").read_text(encoding="utf-8")


def outcomes(wanted: Sequence[str]) -> dict[str, str]:
    """Node id → why it does not show anything, for those of which this is so. Parameters may be left out of an id."""
    python = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    files = sorted({node.partition("::")[0] for node in wanted})
    there = [name for name in files if (ROOT / name).is_file()]
    collected = subprocess.run([*python, "--collect-only", *there], cwd=ROOT, capture_output=True, text=True).stdout
    nodes = [line for line in collected.splitlines() if "::" in line]
    chosen = [node for node in nodes if any(is_of(node, one) for one in wanted)]
    assert chosen, collected
    command = [*python, "-n", str(WORKERS), "--dist", "worksteal", "-rpfEs", "--tb=line", "--timeout", "300"]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True)
    told = [line.partition(" ") for line in done.stdout.splitlines()]
    passed = {node for outcome, _, node in told if outcome == "PASSED"}
    failed = {node: f"{outcome.lower()} {node}" for outcome, _, node in told if outcome in ("FAILED", "ERROR")}
    found = {}
    for one in wanted:
        if reasons := [reason for node, reason in failed.items() if is_of(node, one)]:
            found[one] = "; ".join(reasons)[:600]
        elif not any(is_of(node, one) for node in passed):
            found[one] = f"{one} was " + ("skipped" if any(is_of(node, one) for node in chosen) else "not found")
    return found


def is_of(node: str, wanted: str) -> bool:
    """Whether a node as pytest prints it is the wanted one, one of its parameters, or in its file or class."""
    return node == wanted or node.startswith((f"{wanted}[", f"{wanted}::", f"{wanted} - "))


def examine(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Id of each row → what shows that it still happens."""
    rows = list(rows)
    recipes = yaml.safe_load(Path(early.__file__).with_suffix(".yaml").read_text(encoding="utf-8"))["sound"]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(WORKERS) as pool:
        work, sound = Path(name), Path(name) / "sound"
        sound.mkdir()
        prepare(sound)
        report = pool.submit(nano_report, work / "nano") if any(row.report for row in rows) else None
        commands = [pool.submit(wrong_commands, row, sound, work, recipes) for row in rows]
        found = {row.id: future.result() for row, future in zip(rows, commands, strict=True)}
        shown = visible(report.result()) if report else ""
    tests = list(dict.fromkeys(node for row in rows for node in row.tests))
    failing = outcomes(tests) if tests else {}
    for row in rows:
        found[row.id] += [failing[node] for node in row.tests if node in failing]
        for page, text in row.pages.items():
            content = (ROOT / page).read_text(encoding="utf-8") if (ROOT / page).is_file() else ""
            found[row.id] += [f"{page}: {reason}"] if (reason := text.wrong(content)) else []
        if row.report and (reason := row.report.wrong(shown)):
            found[row.id].append(f"report.html of nano: {reason}")
    return found


def main() -> None:
    """Prints the measurement as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ID", help="rows to look at; all if not given")
    parser.add_argument("--list", action="store_true", help="print the rows, look at nothing")
    options = parser.parse_args()
    rows = [row for row in read() if not options.only or row.id in options.only]
    if options.list:
        for row in rows:
            print(f"S{row.severity} {row.id}: {row.fault}" + (f" (later: {row.later})" if row.later else ""))
        return
    found = examine(row for row in rows if row.later is None)
    still = {row.id: found[row.id] for row in rows if found.get(row.id)}
    severity = {row.id: row.severity for row in rows}
    disputed = {row.id: row.disputed for row in rows if row.disputed}
    for name, reasons in still.items():
        mark = ", disputed" if name in disputed else ""
        print(f"S{severity[name]} {name}{mark}: {' | '.join(reasons)}", file=sys.stderr, flush=True)
    counted = {name: " | ".join(reasons)[:300] for name, reasons in still.items() if name not in disputed}
    measurement = {"value": len(counted), "n": len(found), "unit": "rows", "still": counted, "disputed": disputed}
    measurement["later"] = [row.id for row in rows if row.later]
    print(json.dumps({"measurements": {"newcomer.rows": measurement}}))


if __name__ == "__main__":
    main()
