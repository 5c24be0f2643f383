"""docs.commands: commands of README.md, CONTRIBUTING.md, the docs and the recipes' comments that fail.

    python -m benchmarks.docs_commands [--list] [--only TEXT]

Every command is run in a folder that looks like a clone in which a reader has begun: a model (models/mine), chats,
problems, preference pairs and texts, a recipe my.yaml, and runs/tiny. A command fails that does not end with status 0,
or prints a traceback. Commands that take long, change the machine, or need what it lacks are not run as written:
`instead` says what is run for them, and why; --list prints that. The tests find commands by this module too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.newcomer import early, steps
from benchmarks.own_data.tiny_models import write_model

PROGRAMS = ("thinkling", "make", "python", "torchrun", "pip")
PLACEHOLDER = re.compile(r"…|=(?:TOPIC|ID)\b")
"""Marks a command that only shows a form. A recipe may be RECIPE or `path/to/…`: then one of ours must fit the rest."""
WRITTEN = ("runs/", "path/to/", "models/")
"""Paths below these are written by an earlier command, or are the reader's own."""
SLOW = ("benchmarks.", "experiments")
"""Modules that measure for minutes or hours."""
OWN = {"RECIPE": "my.yaml", "RUN": "tiny", "STAGE": "sft", "MODEL": "models/mine", "KIND": "sft", "ID": "topics/assert"}
"""Placeholder → the reader's."""
MINE = re.compile(r"my[\w-]*\.yaml")
"""A recipe that `init` writes."""
STAGES = ("run", "curate", "tokenize", "pretrain", "refine", "sft", "dpd", "rl", "evaluate")


def pages() -> list[Path]:
    """What is read for commands."""
    texts = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")]
    return [*texts, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").glob("*.yaml"))]


def command_of(line: str) -> list[str] | None:
    """The words of a line that is a command of ours, comment and prompt removed; None for any other line."""
    line = line.strip().removeprefix("$ ")
    if not line.startswith((*(f"{program} " for program in PROGRAMS), ".venv/bin/")):
        return None
    words = shlex.split(line, comments=True)
    if ">" in words:  # what a shell does with the output
        words = words[: words.index(">")]
    words[0] = words[0].removeprefix(".venv/bin/")
    ours = words[0] in ("thinkling", "make", "pip") or "-m" in words
    return words if ours and len(words) > 1 else None


def commands_in(text: str, markdown: bool) -> Iterator[list[str]]:
    """Commands in code blocks and code spans of a page, or in the comments of a recipe."""
    if markdown:
        fenced = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        indented = re.findall(r"^    (.+)$", prose, re.MULTILINE)
        spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)
        lines = [*"\n".join(fenced).replace("\\\n", " ").splitlines(), *indented, *spans]
    else:
        comments = re.findall(r"#(.*)$", text, re.MULTILINE)
        lines = [part for comment in comments for part in re.split(r"\s{2,}|[()]|or: ", comment)]
    yield from (words for line in lines if (words := command_of(line)))


def found() -> list[tuple[str, str]]:
    """(page, command), each once, without those that only show a form."""
    pairs = [
        (str(page.relative_to(ROOT)), shlex.join(words))
        for page in pages()
        for words in commands_in(page.read_text(encoding="utf-8"), page.suffix == ".md")
    ]
    return [pair for pair in dict.fromkeys(pairs) if not PLACEHOLDER.search(pair[1])]


def instead(words: Sequence[str]) -> tuple[list[list[str]], str]:
    """What is run for a command, and why; the command itself and no reason for most."""
    own = [re.sub(r"(?<![^=])[A-Z]+$", lambda found: OWN.get(found[0], found[0]), word) for word in words]
    match [
        word.removeprefix("recipes/").removesuffix(".yaml") if word.startswith("recipes/") else word for word in own
    ]:
        case ["make", "bench", name]:
            listed = ["python", "-m", "benchmarks.harness", "--table", name.removeprefix("NAME=")]
            return [
                ["make", "-n", "bench", name],
                listed,
            ], "minutes or hours: make -n, and the stored results"
        case ["make", "tiny"]:
            listed = ["python", "-m", "benchmarks.harness", "--table", "tiny.story-wall"]
            return [
                ["make", "-n", "tiny"],
                ["thinkling", "plan", "tiny"],
                listed,
            ], "a quarter of an hour: make -n, plan, and the stored result"
        case ["make", *rest]:
            return [["make", "-n", *rest]], "minutes, or it changes this machine: make's own commands"
        case ["pip", "install", *rest]:
            return [["pip", "install", "--dry-run", "--quiet", *rest]], "changes this machine: what would be installed"
        case ["torchrun", *rest]:
            two = [re.sub(r"^\d+$", "2", word) for word in rest]
            few = ["--set", "name=processes", "--set", "stages.sft.batch_size=2"]
            return [["torchrun", *two, *few]], "wants eight GPUs: two processes on this CPU"
        case ["python", "-m", "benchmarks.harness", *_]:
            return [own], ""
        case ["python", "-m", module, *_] if module.startswith(SLOW):
            return [[*own, "--help"]], "minutes or hours: whether it has these options"
        case ["thinkling", "--install-completion"]:
            return [["thinkling", "--show-completion", "bash"]], "changes the reader's shell: what it would install"
        case ["thinkling", verb, "tiny", *rest] if verb in STAGES:
            plan = ["thinkling", "plan", "tiny", *without(rest, "--stage")]
            name = [] if any(word.startswith("name=") for word in rest) else ["--set", "name=tiny"]
            return [plan, ["thinkling", verb, "nano", *rest, *name]], "a quarter of an hour: nano has the same stages"
        case ["thinkling", "run", "posttrain" | "rl-gsm8k" | "my-rl.yaml" as recipe, *rest]:
            both = [["thinkling", verb, recipe, *rest] for verb in ("plan", "doctor")]
            return both, "wants a model that is right at times, and hours: the checks that come before stage 1"
        case ["thinkling", "refine", _, "--set", chain] if "url: " in chain:
            return [["thinkling", "plan", "nano", "--set", chain]], "wants a server: the recipe with it is planned"
        case ["thinkling", "export", run, stage, "--step", step] if step != "best":
            return [["thinkling", "export", run, stage, "--step", "last"]], "steps are those of the reader's run"
        case ["thinkling", "init", *_]:
            return [own, ["thinkling", "plan", next((word for word in own if MINE.fullmatch(word)), "my.yaml")]], ""
    return [own], ""


def without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    return [word for i, word in enumerate(words) if word != option and (i == 0 or words[i - 1] != option)]


def prepare(folder: Path) -> None:
    """The clone of a reader who has begun."""
    for path in ROOT.iterdir():
        if path.name not in ("runs", "models", "data", ".git"):
            (folder / path.name).symlink_to(path)
    problems = steps.problems()
    write_model(folder / "models" / "mine", "qwen3", [text for one in problems for text in one.values()])
    config = folder / "models" / "mine" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 4096}))
    for name in ("start", "teacher"):
        shutil.copytree(folder / "models" / "mine", folder / "models" / name)
    chats = [
        {"messages": [{"role": "user", "content": one["question"]}, {"role": "assistant", "content": one["answer"]}]}
        for one in problems
    ] * 8
    pairs = [{"prompt": one["question"], "chosen": one["answer"], "rejected": "No."} for one in problems]
    programs = [
        {"task_id": n, "text": f"Write a function f that adds {n}.", "code": f"def f(x):\n    return x + {n}",
         "test_list": [f"assert f({m}) == {m + n}" for m in range(3)], "test_setup_code": "", "challenge_test_list": []}
        for n in range(40)
    ]  # fmt: skip
    many = [
        {"question": f"What is {a} plus {b}?", "answer": f"a sum\n#### {a + b}"} for a in range(50) for b in range(50)
    ]
    files = {
        "chats.jsonl": chats, "problems.jsonl": problems, "pairs.jsonl": pairs,
        "data/chats.jsonl": chats, "data/chats/one.jsonl": chats, "data/preferences.jsonl": pairs,
        "data/mbpp.jsonl": programs, "data/gsm8k/train.jsonl": many, "data/gsm8k/test.jsonl": problems[:4],
    }  # fmt: skip
    for name, records in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        early.write_lines(folder / name, list(records))
    (folder / "texts").mkdir()
    for n in range(20):
        words = " ".join(f"word{(n * i) % 97}" for i in range(200))
        (folder / "texts" / f"{n}.txt").write_text(words, encoding="utf-8")
    begun(folder)


def begun(folder: Path) -> None:
    """my.yaml and its run; runs/nano, and the same as runs/tiny, with another sft that was killed on the way."""
    for command in (
        "thinkling init rl --model models/mine --data problems.jsonl -o my-rl.yaml",
        "thinkling init sft --model models/mine --data chats.jsonl -o my.yaml",
        "thinkling run my.yaml",
        "thinkling run nano",
    ):
        if reason := run(shlex.split(command), folder):
            raise AssertionError(reason)
    shutil.copytree(folder / "runs" / "nano", folder / "runs" / "tiny", symlinks=True)
    if reason := run(shlex.split("thinkling run nano --set name=tiny"), folder):
        raise AssertionError(reason)
    evaluated = ("keep_best=true", "validation_fraction=0.1", "evaluate_every=20")
    options = ["--set", "name=tiny", *(word for field in evaluated for word in ("--set", f"stages.sft.{field}"))]
    command = [sys.executable, "-m", "thinkling", "sft", "nano", "--stage", "sft", *options]
    before = {path.name for path in (folder / "runs" / "tiny").iterdir()}
    with subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            process.send_signal(signal.SIGSTOP)  # so that nothing is half written when it is killed
            fresh = [path for path in (folder / "runs" / "tiny").glob("sft-*.partial") if path.name not in before]
            written = [step for path in fresh for step in path.glob("checkpoints/step-????????")]
            sealed = bool(written) and all((step / ".config.json.seal").is_file() for step in written)
            if sealed and any((path / "best").is_dir() for path in fresh):
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert list((folder / "runs" / "tiny").glob("sft-*.partial/checkpoints/step-*")), "no killed sft"


def environment(folder: Path) -> dict[str, str]:
    """A reader's, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "MAKEFLAGS")}
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    home = {"HOME": str(folder / "home"), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    return kept | home | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}


def run(words: Sequence[str], folder: Path) -> str:
    """Why a command fails, or nothing."""
    programs = {
        "thinkling": ["-m", "thinkling"],
        "python": [],
        "pip": ["-m", "pip"],
        "torchrun": ["-m", "torch.distributed.run"],
    }
    started = [sys.executable, *programs[words[0]], *words[1:]] if words[0] in programs else list(words)
    make_room(words, folder)
    done = subprocess.run(
        started,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode or "Traceback (most recent call last)" in done.stderr:
        return f"{shlex.join(words)}: exit status {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}"
    asked = [word for word in words if word.startswith("--") and word != "--help"] if "--help" in words else []
    unknown = [word for word in asked if word not in done.stdout]
    return f"{shlex.join(words)}: there is no option {', '.join(unknown)}" if unknown else ""


def make_room(words: Sequence[str], folder: Path) -> None:
    """Removes what `init` and `export` would refuse to overwrite: a reader gives one of the commands of a page."""
    if list(words[:2]) == ["thinkling", "init"]:
        (folder / next((word for word in words if MINE.fullmatch(word)), "my.yaml")).unlink(missing_ok=True)
    elif list(words[:2]) == ["thinkling", "export"]:
        to = words[words.index("--to") + 1] if "--to" in words else f"{Path(words[2]).name}-{words[3]}*"
        for directory in folder.glob(to):
            shutil.rmtree(directory)


def begins_anew(words: Sequence[str]) -> bool:
    return list(words[:2]) == ["thinkling", "init"]


def main() -> None:
    """Prints the measurement as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print what is run for each command, run nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that hold this text")
    options = parser.parse_args()
    where: dict[str, list[str]] = {}
    for page, command in found():
        where.setdefault(command, []).append(page)
    wanted = {command: instead(shlex.split(command)) for command in where if options.only in command}
    if options.list:
        for command, (given, why) in wanted.items():
            print(command, *([f"  {why}:"] if why else []), *(f"    {shlex.join(one)}" for one in given), sep="\n")
        return
    failing: dict[str, str] = {}
    once: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        # Those that write my.yaml come last: the others are given with the one that is there.
        for command, (given, _) in sorted(wanted.items(), key=lambda item: begins_anew(item[1][0][0])):
            for one in given:
                if shlex.join(one) not in once:
                    once[shlex.join(one)] = run(one, folder)
            reason = next((once[shlex.join(one)] for one in given if once[shlex.join(one)]), "")
            print(f"{'fails' if reason else 'ok'}: {command}", flush=True)
            if reason:
                failing[command] = f"{', '.join(where[command])}: {reason}"
                print(failing[command], file=sys.stderr, flush=True)
    others = sum(bool(why) for _, why in wanted.values())
    measurement = {"value": len(failing), "n": len(wanted), "unit": "commands", "failing": failing, "instead": others}
    print(json.dumps({"measurements": {"docs.commands": measurement}}))


if __name__ == "__main__":
    main()
