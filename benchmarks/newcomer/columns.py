"""newcomer.columns: numbers that a terminal of 80 columns cuts, over every table that thinkling prints.

    python -m benchmarks.newcomer.columns

Each command that prints a table runs in a pseudo-terminal of 80 columns and in one of 400, where nothing has to be
folded: `run` (nano, done before), `plan` of nano and of the 3B recipe, `doctor`, `clean`, `show`, `explain`. A number
of the wide output that is not whole in the narrow one is counted as cut, bars excepted; so is a line that is wider
than the terminal, and an ellipsis. Seconds, memory and load differ from run to run: numbers are those of the same
artifacts, and `doctor` is compared without the lines of cores, memory and disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections import Counter
from pathlib import Path

NUMBER = re.compile(r"\d[\d.,]*\d|\d")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COMMANDS = {
    "run": ["run", "nano"],
    "plan": ["plan", "nano"],
    "plan, 3B": ["plan", "nanbeige4-3b"],
    "doctor": ["doctor", "nano"],
    "clean": ["clean", "nano", "--set", "seed=1"],
    "show, counts": ["show", "nano", "refine", "--n", "0"],
    "show, scores": ["show", "nano", "evaluate", "--n", "2"],
    "explain": ["explain", "nano", "topics/assert", "--text"],
}
VARYING = re.compile(r"cores|memory|disk|load|nano, seed 0|CPU threads|usable|available|free")


def in_terminal(arguments: list[str], cwd: Path, columns: int) -> str:
    """What the command prints on standard output in a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "thinkling", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        command, cwd=cwd, stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(slave)
        output = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the terminal is closed at the command's end
                break
            if not part:
                break
            output += part
        errors = process.stderr.read().decode() if process.stderr else ""
    os.close(master)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{errors}")
    return ESCAPE.sub("", output.decode()).replace("\r\n", "\n")


def numbers(text: str) -> Counter[str]:
    """Numbers of the tables' lines."""
    kept = [line for line in text.split("\n") if not VARYING.search(line)]
    return Counter(n.strip(".,") for line in kept for n in NUMBER.findall(line))


def cut(narrow: str, wide: str, columns: int) -> list[str]:
    """What is not whole in the narrow output."""
    dropped = numbers_of_dropped_columns(wide)
    missing = numbers(wide) - numbers(narrow) - dropped
    broken = [f"{n}: {count} times less" for n, count in missing.items()]
    lines = [line for line in narrow.split("\n") if len(line) > columns and line[:1] in "┃│┏┡└"]
    return broken + [f"too wide: {line}" for line in lines] + [line for line in narrow.split("\n") if "…" in line]


def numbers_of_dropped_columns(wide: str) -> Counter[str]:
    """Of the score table: `right if it thinks` and `0 … 1`, which a narrow terminal has no room for on purpose."""
    found: Counter[str] = Counter()
    at: list[int] = []
    for line in wide.split("\n"):
        cells = re.split("[┃│]", line)
        if "right if it thinks" in line:
            at = [i for i, cell in enumerate(cells) if cell.strip() in ("right if it thinks", "0 … 1")]
            found.update(n.strip(".,") for i in at for n in NUMBER.findall(cells[i]))
        elif not line.startswith(("│", "┡")):
            at = []
        elif len(cells) > max(at, default=0):
            found.update(n.strip(".,") for i in at for n in NUMBER.findall(cells[i]))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, "-m", "thinkling", "run", "nano"], cwd=folder, check=True, stdout=sys.stderr)
        runs = []
        for name, arguments in COMMANDS.items():
            narrow, wide = (in_terminal(arguments, folder, columns) for columns in (80, 400))
            runs.append({"command": name, "numbers": numbers(narrow).total(), "cut": cut(narrow, wide, 80)})
            print(runs[-1], flush=True)
    value, n = sum(len(run["cut"]) for run in runs), sum(run["numbers"] for run in runs)
    print(json.dumps({"measurements": {"newcomer.columns": {"value": value, "n": n, "runs": runs, "unit": "numbers"}}}))


if __name__ == "__main__":
    main()
