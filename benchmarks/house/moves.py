"""Checks that commits named as moves of code leave the bytes of a `nano` run unchanged.

    python -m benchmarks.house.moves [--range edbfc55..HEAD] [--cache runs/moves]

Runs recipes/nano.yaml at every commit whose subject starts with "Move: " and at its parent, each in its own git
worktree, and compares all files of the finished artifacts and the stored golden curves of the trainer's tests. Anything
that differs between any two runs is ignored: `recorded` blocks, times and memory in summary.json, logs, and
report.html. Artifacts are paired by stage, so a changed hash counts as a changed manifest, not as a lost artifact. The
value is the number of files that differ; a commit at which `nano` does not run counts as one.

Digests are cached under a hash of their inputs (src, the recipe, pyproject.toml, the machine), so that commits share
runs and an interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.exactness.kill_resume import comparable, files

RECIPE, PREFIX = "recipes/nano.yaml", "Move: "
DECIDES = ("src", RECIPE, "pyproject.toml")
"""Paths that a run depends on, besides the machine."""
GOLDEN = re.compile(r"tests/train/golden_\w+\.json")
HASH = re.compile(r"-[0-9a-f]{8}(?=/|$)")
"""The hash at the end of the name of an artifact's directory."""

Digests = dict[str, str]
"""File → sha256 of the content that has to be equal."""


@dataclass(frozen=True)
class Move:
    """A commit whose subject says that it only moves code."""

    commit: str
    parent: str
    subject: str


def git(*arguments: str, root: Path = machine.ROOT) -> str:
    """Output of a git command."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def moves(commits: str, root: Path = machine.ROOT) -> list[Move]:
    """The moves in a range of commits, oldest first."""
    lines = git("log", "--reverse", "--no-merges", "--format=%H %P %s", commits, root=root).splitlines()
    found = [Move(*line.split(" ", 2)) for line in lines]
    return [move for move in found if move.subject.startswith(PREFIX)]


def key(commit: str, root: Path = machine.ROOT) -> str:
    """Hash of everything that determines the bytes of a run at a commit, including this machine and its packages."""
    parts = [git("rev-parse", f"{commit}:{path}", root=root).strip() for path in DECIDES]
    return hashlib.sha256("\n".join([*parts, machine.describe()]).encode()).hexdigest()[:16]


def golden(commit: str, root: Path = machine.ROOT) -> Digests:
    """The golden curves stored at a commit, by git's own hashes."""
    listed = (line.split(maxsplit=3) for line in git("ls-tree", "-r", commit, "tests/train", root=root).splitlines())
    return {name: blob for _, _, blob, name in listed if GOLDEN.fullmatch(name)}


def digests(run: Path) -> Digests:
    """File → digest of a finished run, with artifact directories named without their hashes."""
    return {HASH.sub("", name): hashlib.sha256(comparable(path)).hexdigest() for name, path in files(run).items()}


def run_nano(commit: str) -> Digests:
    """Runs the recipe at a commit, in a worktree that is removed afterwards.

    Raises CalledProcessError if the run fails; its output is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree, runs = Path(folder) / "tree", Path(folder) / "runs"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            environment = {
                **os.environ,
                "PYTHONPATH": str(tree / "src"),
                "OMP_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
            }
            # Plug-ins are found by the metadata next to the package; use this commit's, not the installed one.
            metadata = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
            command = [sys.executable, "-m", "thinkling", "run", RECIPE, "--runs", str(runs)]
            for one in (metadata, command):
                subprocess.run(one, cwd=tree, env=environment, check=True, stdout=sys.stderr)
            (run,) = runs.iterdir()
            return digests(run)
        finally:
            git("worktree", "remove", "--force", str(tree))


def cached(commit: str, cache: Path) -> Digests | None:
    """Digests of the run at a commit, from the cache if possible; None if the run fails."""
    path = cache / f"{key(commit)}.json"
    if not path.exists():
        print(f"{commit[:12]}: running {RECIPE}", file=sys.stderr, flush=True)
        try:
            found = run_nano(commit)
        except subprocess.CalledProcessError as error:
            print(f"{commit[:12]}: {error}", file=sys.stderr)
            return None
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        os.replace(partial, path)
    return json.loads(path.read_text(encoding="utf-8"))


def differing(move: Move, cache: Path) -> list[str]:
    """Files that differ between a move and its parent."""
    runs = [cached(commit, cache) for commit in (move.parent, move.commit)]
    curves = [golden(commit) for commit in (move.parent, move.commit)]
    if runs[0] is None or runs[1] is None:
        return [f"{RECIPE} does not run {'before' if runs[0] is None else 'after'}"]
    before, after = ({**run, **curve} for run, curve in zip(runs, curves, strict=True) if run is not None)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--range", default="edbfc55..HEAD", help="range of commits, as for git log")
    parser.add_argument("--cache", type=Path, default=machine.ROOT / "runs" / "moves")
    arguments = parser.parse_args()
    found = {}
    for move in moves(arguments.range):
        found[move.commit[:12]] = names = differing(move, arguments.cache)
        print(f"{move.commit[:12]} {move.subject}: {len(names)} files differ", *names, sep="\n  ", flush=True)
    if not found:
        raise SystemExit(f"{arguments.range}: no commit starts with {PREFIX!r}")
    wrong = {commit: names for commit, names in found.items() if names}
    runs = [len(names) for names in found.values()]
    measured = {"value": sum(runs), "n": len(found), "runs": runs, "unit": "files", "differing": wrong}
    print(json.dumps({"measurements": {"house.moves": measured}}))


if __name__ == "__main__":
    main()
