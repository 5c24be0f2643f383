"""newcomer.early: faulty recipes that are refused before stage 1.

    python -m benchmarks.newcomer.early [--list]

early.yaml contains 40 recipes with one fault each. `thinkling run`, `plan` and `doctor` have to refuse each of them:
exit status 2 (for doctor also 1, a failed check), one line that names the field or file and the cure, no traceback, and
no stage started. If the sound recipes that they are derived from do not pass `plan`, nothing is measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.own_data.tiny_models import write_model

REASONED = {
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
    ]
}
CALL = {"id": "c1", "type": "function", "function": {"name": "calculator", "arguments": '{"expression": "2+2"}'}}
CALLING = {
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "calculator"},
        {"role": "assistant", "content": "4"},
    ]
}
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def prepare(folder: Path) -> None:
    """Writes a sound model and sound data."""
    questions = [f"What is {a} plus {b}?" for a in range(10, 20) for b in range(10)]
    write_model(folder / "model", "qwen3", questions)
    write_lines(
        folder / "chats.jsonl",
        [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "A number."}]}
            for question in questions
        ],
    )
    write_lines(folder / "problems.jsonl", [{"q": q, "a": str(i // 10 + 10 + i % 10)} for i, q in enumerate(questions)])
    write_lines(folder / "preferences.jsonl", [{"prompt": q, "chosen": "Yes.", "rejected": "No."} for q in questions])
    write_lines(folder / "docs.jsonl", [{"text": f"{question} A document about it. " * 20} for question in questions])


def _template(folder: Path, source: str | None) -> None:
    """Replaces the model's own."""
    (folder / "model" / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "model" / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    if source is not None:
        (folder / "model" / "chat_template.jinja").write_text(source, encoding="utf-8")


def _pickled(folder: Path) -> None:
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")


def _family(folder: Path) -> None:
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "gpt_bigcode"}))


def _cut(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _losing(folder: Path, record: dict[str, Any]) -> None:
    _template(folder, PLAIN)
    write_lines(folder / "chats.jsonl", [record] * 20)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty chats": lambda folder: (folder / "chats.jsonl").write_text(""),
    "chats as csv": lambda folder: (folder / "chats.jsonl").write_text("question,answer\nWhat?,That.\n" * 20),
    "chats of questions alone": lambda folder: write_lines(
        folder / "chats.jsonl", [{"messages": [{"role": "user", "content": "What?"}]}] * 20
    ),
    "no tokenizer": lambda folder: (folder / "model" / "tokenizer.json").unlink(),
    "pickled weights": _pickled,
    "another family": _family,
    "weights cut": _cut,
    "no template": lambda folder: _template(folder, None),
    "broken template": lambda folder: _template(folder, "{% for m in messages %}{{ m.content }"),
    "template without reasoning": lambda folder: _losing(folder, REASONED),
    "template without calls": lambda folder: _losing(folder, CALLING),
    "preferences without pairs": lambda folder: write_lines(folder / "preferences.jsonl", [REASONED] * 20),
}


def edited(recipe: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """A copy of the recipe with dotted fields set."""
    recipe = copy.deepcopy(recipe)
    for dotted, value in fields.items():
        *path, last = dotted.split(".")
        place: Any = recipe
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[last] = value
    return recipe


def run(verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thinkling", verb, "recipe.yaml"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


def wrong(verb: str, fault: dict[str, Any], folder: Path) -> str:
    """Problem with a command's response to a fault; empty if there is none."""
    done = run(verb, folder)
    said = done.stdout + done.stderr if verb == "doctor" else done.stderr
    if done.returncode != 2 and (verb != "doctor" or done.returncode != 1):
        return f"exit status {done.returncode}"
    if "Traceback" in done.stderr:
        return "a traceback"
    told = [line for line in done.stderr.split("\n") if line.startswith("thinkling: ")]
    if verb != "doctor" and (len(told) != 1 or not done.stderr.strip().endswith(told[0])):
        return f"not one line: {done.stderr.strip()[:300]!r}"
    if "[1/" in done.stderr:
        return "a stage was begun"
    said = " ".join(said.split())
    if fault["field"] not in said:
        return f"{fault['field']} is not named: {said[-300:]!r}"
    if not any(word in said for word in fault["cure"]):
        return f"none of {fault['cure']} is named: {said[-300:]!r}"
    if list(folder.glob("runs/*/*-*")):
        return "a stage was begun"
    return ""


def main() -> None:
    """Prints the measurement as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the problem with each response")
    options = parser.parse_args()
    table = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    refused, reasons = 0, {}
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "sound"
        sound.mkdir()
        prepare(sound)
        for recipe in table["sound"].values():
            (sound / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
            done = run("plan", sound)
            assert done.returncode == 0, done.stderr
        for number, fault in enumerate(table["faults"]):
            folder = Path(name) / str(number)
            shutil.copytree(sound, folder)
            recipe = edited(table["sound"][fault["of"]], fault.get("set", {}))
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
            if "damage" in fault:
                DAMAGES[fault["damage"]](folder)
            found = {verb: reason for verb in ("plan", "doctor", "run") if (reason := wrong(verb, fault, folder))}
            if found:
                reasons[fault["id"]] = found
            else:
                refused += 1
            if options.list and found:
                print(f"{fault['id']}: {found}", flush=True)
    measurement = {"value": refused, "n": len(table["faults"]), "unit": "recipes", "otherwise": reasons}
    print(json.dumps({"measurements": {"newcomer.early": measurement}}))


if __name__ == "__main__":
    main()
