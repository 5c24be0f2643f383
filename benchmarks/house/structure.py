"""Violations of the code base's own rules, counted over src/thinkling.

    python -m benchmarks.house.structure

Every check returns its violations, one line each; the claim's value is their number. tests/test_house.py runs the same
checks.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from importlinter.api import read_configuration

from benchmarks.machine import ROOT
from benchmarks.modules import load

PACKAGE = ROOT / "src" / "thinkling"
MOST_PARAMETERS, MOST_LINES = 8, 500
CHATML = re.compile("im_start|im_end")
CHATML_FILES = {"generate/renderer.py", "data/chatml.py", "data/tokenizer.py"}
"""The files that may name ChatML's special tokens."""


def modules(package: Path, outside: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Relative path and text of every Python file, except those in the rooms `outside`."""
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in outside:
            yield name.as_posix(), path.read_text(encoding="utf-8")


def broken_floors(package: Path) -> list[str]:
    """Import contracts that are broken, and contracts without a test that notices a breach."""
    lint_imports = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [str(lint_imports), "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    broken = [line.strip() for line in result.stdout.splitlines() if re.search(r" BROKEN\b", line)]
    if result.returncode and not broken:
        raise RuntimeError(f"lint-imports: exit status {result.returncode}\n{result.stdout}{result.stderr}")
    contracts = {one["id"] for one in read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]}
    breaches = load(ROOT / "tests" / "test_architecture.py").BREACHES
    tested = {contract for contract, *_ in breaches.values()}
    return broken + [f"contract {name}: no test breaks it" for name in sorted(contracts - tested)]


def puzzle_words(package: Path) -> list[str]:
    """Lines outside puzzles/ that contain "puzzle"."""
    return _lines(package, re.compile("puzzle", re.IGNORECASE), lambda name: name.startswith("puzzles/"))


def chatml_words(package: Path) -> list[str]:
    """Lines that name ChatML's special tokens outside the renderer, the chat templates and the tokenizer."""
    return _lines(package, CHATML, lambda name: name in CHATML_FILES)


def _lines(package: Path, pattern: re.Pattern[str], allowed: Callable[[str], bool]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in modules(package)
        if not allowed(name)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def _holds_sources(name: str) -> bool:
    """Whether a file may define sources and check their types: sources/, puzzles/ and any module sources.py."""
    return name.startswith(("sources/", "puzzles/")) or Path(name).stem == "sources"


def source_classes(package: Path) -> set[str]:
    """Names of source classes: those with Source in the name, and classes derived from them."""
    bases = {
        node.name: {name for base in node.bases for name in _names(base)}
        for name, text in modules(package)
        if _holds_sources(name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }
    found = {name for name in bases if "Source" in name}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def isinstance_of_sources(package: Path) -> list[str]:
    """Each isinstance or class pattern that checks for a type of source outside sources/ and puzzles/."""
    classes = source_classes(package)
    found = []
    for name, text in modules(package):
        if _holds_sources(name):
            continue
        for node in ast.walk(ast.parse(text)):
            asked: set[str] = set()
            if isinstance(node, ast.Call) and _names(node.func) == {"isinstance"} and len(node.args) == 2:
                asked = _names(node.args[1])
            elif isinstance(node, ast.MatchClass):
                asked = _names(node.cls)
            if asked & classes:
                found.append(f"{name}:{node.lineno}: {', '.join(sorted(asked & classes))}")  # type: ignore[attr-defined]
    return found


def _names(node: ast.expr) -> set[str]:
    """Names in an expression: for `files.FilesSource | Other`, both classes and `files`."""
    return {
        n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    }


def long_signatures(package: Path) -> list[str]:
    """Functions with more than 8 parameters, not counting self and cls. Exempt are methods of autograd functions, and
    commands: their parameters are the options of the command line."""
    found = []
    for name, text in modules(package):
        tree = ast.parse(text)
        excepted = {
            method
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any("Function" in _names(base) for base in node.bases)
            for method in node.body
        }
        commands = {
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and any("command" in _names(one) for one in node.decorator_list)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in excepted | commands:
                n = len(_parameters(node.args))
                if n > MOST_PARAMETERS:
                    found.append(f"{name}:{node.lineno}: {node.name} has {n} parameters")
    return found


def _parameters(arguments: ast.arguments) -> list[str]:
    named = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    if named and named[0] in ("self", "cls"):
        named = named[1:]
    rest = [one.arg for one in (arguments.vararg, *arguments.kwonlyargs, arguments.kwarg) if one is not None]
    return named + rest


def long_files(package: Path) -> list[str]:
    """Files of more than 500 lines."""
    return [f"{name}: {n} lines" for name, text in modules(package) if (n := len(text.splitlines())) > MOST_LINES]


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "house.floors": broken_floors,
    "house.puzzle-words": puzzle_words,
    "house.isinstance-source": isinstance_of_sources,
    "house.chatml-words": chatml_words,
    "house.parameters": long_signatures,
    "house.long-files": long_files,
}
UNITS = {"house.floors": "contracts", "house.parameters": "functions", "house.long-files": "files"}
"""Claim → unit; the claims not listed count lines."""


def main() -> None:
    n_files = sum(1 for _ in modules(PACKAGE))
    measurements = {}
    for claim, check in CHECKS.items():
        found = check(PACKAGE)
        print(f"{claim}: {len(found)}", *found, sep="\n  ")
        unit = UNITS.get(claim, "lines")
        measurements[claim] = {"value": len(found), "n": n_files, "runs": [len(found)], "unit": unit, "found": found}
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
