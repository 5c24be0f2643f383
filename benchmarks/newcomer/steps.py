"""newcomer.steps: commands and edited lines of YAML from a fresh environment to one's own model.

    python -m benchmarks.newcomer.steps [--keep DIR]

Two tasks, in an empty folder: SFT of a given tiny model directory on a given chat file, and GRPO of one on a file in
GSM8K's form. The commands are those of docs/quickstart.md; all are run except the first, `pip install`, which
newcomer.wheel measures. An option --set counts as an edited line. The model of the second task has learned some of the
problems, because without any right answer there is nothing to reinforce. It is an error if a task does not produce a
model that transformers loads, or if `plan` or `doctor` refuses its recipe.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.own_data.tiny_models import write_model

INSTALL = ["pip", "install", "thinkling"]
SFT = [
    INSTALL,
    ["thinkling", "init", "sft", "--model", "my-model", "--data", "chats.jsonl", "-o", "my.yaml"],
    ["thinkling", "run", "my.yaml"],
]
RL = [
    INSTALL,
    ["thinkling", "init", "rl", "--model", "my-model", "--data", "problems.jsonl", "-o", "my.yaml"],
    ["thinkling", "run", "my.yaml", "--set", "stages.rl.steps=4"],
]
N = 24


def thinkling(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "thinkling", *arguments]
    print(folder.name, *arguments, flush=True)
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def problems() -> list[dict[str, str]]:
    """Sums in GSM8K's form."""
    found = []
    for number in range(N):
        a, b = 10 + number, 3 + number % 4
        found.append(
            {"question": f"What is {a} plus {b}?", "answer": f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"}
        )
    return found


def prepare_sft(folder: Path) -> None:
    """The user's files: a model directory and chats."""
    chats = [(one["question"], one["answer"].partition("####")[2].strip()) for one in problems()]
    write_model(folder / "my-model", "qwen3", [text for chat in chats for text in chat])
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in chats]
    write_lines(folder / "chats.jsonl", [{"messages": messages} for messages in turns])


def prepare_rl(folder: Path) -> None:
    """A model directory that solves some of the problems, and the problems."""
    write_lines(folder / "problems.jsonl", problems())
    work = folder.parent / "given"
    work.mkdir()
    write_model(work / "start", "qwen3", [text for one in problems() for text in one.values()])
    recipe = {
        "name": "given",
        "sources": {
            "start": {"type": "model", "path": str(work / "start")},
            "sums": {"type": "problems", "preset": "gsm8k", "path": str(folder / "problems.jsonl")},
        },
        "stages": {
            "sft": {
                "kind": "sft", "inputs": {"model": "start"}, "examples": {"source": "sums"}, "epochs": 60,
                "sequence_length": 256, "batch_size": 2, "optimizer": {"lr": 3e-3}, "warmup_steps": 5,
            }
        },
    }  # fmt: skip
    (work / "given.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    thinkling(work, "run", "given.yaml")
    (folder / "my-model").symlink_to((work / "runs" / "given" / "model").resolve())


def carry_out(folder: Path, commands: list[list[str]]) -> dict[str, Any]:
    """Runs the commands; returns the number of commands and of edited lines."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for program, *arguments in commands:
        if program == "thinkling":
            thinkling(folder, *arguments)
            if arguments[0] == "init":
                thinkling(folder, "plan", "my.yaml")
                thinkling(folder, "doctor", "my.yaml")
    directory = folder / "runs" / "my" / "model"
    AutoModelForCausalLM.from_pretrained(directory)
    AutoTokenizer.from_pretrained(directory)
    lines = sum(word == "--set" for command in commands for word in command)
    return {"commands": len(commands), "lines": lines, "is": [" ".join(command) for command in commands]}


def main() -> None:
    parser = argparse.ArgumentParser(description="commands from a fresh environment to one's own model")
    parser.add_argument("--keep", type=Path, help="folder to work in; deleted at the end if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.keep or Path(temporary)).resolve()
        runs = {}
        for name, prepare, commands in (("sft", prepare_sft, SFT), ("rl", prepare_rl, RL)):
            folder = work / name
            folder.mkdir(parents=True)
            prepare(folder)
            runs[name] = carry_out(folder, commands)
    listed = [{"task": name, **run} for name, run in runs.items()]
    measurements = {
        "newcomer.steps": {"value": max(run["commands"] for run in listed), "n": 2, "runs": listed, "unit": "commands"},
        "newcomer.steps-lines": {"value": max(run["lines"] for run in listed), "n": 2, "runs": listed, "unit": "lines"},
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
