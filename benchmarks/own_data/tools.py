"""A user's tool and verifier from an installed package, and the attack suite through the python tool.

The package is the one in docs/tools.md, plus a source of problems. pip builds and installs it into a folder, and a new
interpreter finds it by its entry points. A small model learns four conversations with tool calls by heart. An evaluate
stage then asks their questions: the user's tool answers the calls, and the user's verifier judges the answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.security.sandbox import as_users
from thinkling.errors import UserError

PAGE = ROOT / "docs" / "tools.md"
COUNTED = ("my_package/tool.py", "my_package/notes.py", "my_package/verifier.py")
_BLOCK = re.compile(r"^```\w+ (?P<file>my_package/\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCE = """
from typing import Literal
from thinkling.sources.base import Source
from thinkling.tasks.problem import Problem, problem_id

WORDS = ("listen", "enlisted", "tin", "silences")

class WordsSource(Source):
    type: Literal["words"]
    offers = frozenset({"problems"})

    def verifiers(self):
        return frozenset({"same_number"})

    def tool_names(self):
        return frozenset({"letters", "notes"})

    def problems(self, split, n=None, seed=0, families=None):
        questions = {word: f"Letters of {word}?" for word in WORDS}
        return [
            Problem(problem_id("words", q), "words", q, str(len(word)), "", "same_number", tools=("letters", "notes"))
            for word, q in questions.items()
        ]
"""
USED = """
import json
from pathlib import Path

import torch
from rich.console import Console
from my_package.source import WORDS, WordsSource

from thinkling.data.chat_template import OURS, CHATML
from thinkling.data.conversations import tool_call
from thinkling.data.tokenizer import train_bpe
from thinkling.generate.renderer import Renderer
from thinkling.generate.rollouts import read_rollouts
from thinkling.generate.tools import listings
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute

torch.set_num_threads(1)
announced = listings(["letters", "notes"])
problems = WordsSource(type="words").problems("heldout")
texts = [p.question for p in problems] * 9 + [json.dumps(announced)] * 9
tokenizer = train_bpe(texts, 300, chat_template=CHATML)
renderer = Renderer(tokenizer, OURS)
model = Decoder(ModelConfig(vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False))
model.init_weights(torch.Generator().manual_seed(0))
pairs = []
for word, p in zip(WORDS, problems):
    calls = [tool_call("letters", {"text": word})]
    pairs.append(renderer.encode([
        {"role": "user", "content": p.question},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": p.answer},
        {"role": "assistant", "content": f"{p.answer}."},
    ], announced))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(600):
    total = 0.0
    for ids, loss in pairs:
        tokens = torch.tensor(ids, dtype=torch.int64)
        logits = model.logits(model(tokens[None, :-1]))[0]
        wanted = torch.tensor(loss[1:])
        total = total + torch.nn.functional.cross_entropy(logits[wanted], tokens[1:][wanted])
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    if total.item() < 0.005:
        break
save_pretrained(model, Path("start"))
tokenizer.save(Path("start"))
recipe = load_recipe(Path("recipe.yaml"))
[done] = [d for d in execute(Run(recipe, Path("runs")), Console(stderr=True)) if d.name == "evaluate"]
[path] = sorted((done.artifact.path / "rollouts" / "words").glob("*.parquet"))
rollouts = read_rollouts(path)
read = [renderer.read(r) for r in rollouts]
responses = [[part.text for part in one.parts if part.kind == "response"] for one in read]
print(json.dumps({
    "steps": step + 1, "loss": total.item(),
    "answered": [r == [p.answer] for r, p in zip(responses, problems)],
    "right": [r.outcome == "right" and r.tier == "same_number" for r in rollouts],
    "texts": [r.text for r in rollouts],
}))
"""
RECIPE = """
name: own
sources:
  start: {type: model, path: start}
  words: {type: words}
stages:
  evaluate: {kind: evaluate, inputs: {model: start}, k: 1, temperature: 0, max_new_tokens: 64,
    task_sets: {words: {source: words}}}
"""


def package_of_the_page() -> dict[str, str]:
    """File → text, from the code blocks of the page."""
    return {found["file"]: found["text"] for found in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


def lines(text: str) -> int:
    """Number of lines of Python that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def install(folder: Path) -> Path:
    """Builds and installs the package with pip; returns the folder of the installation."""
    project, target = folder / "project", folder / "site"
    (project / "my_package").mkdir(parents=True)
    for file, text in package_of_the_page().items():
        place = project / ("pyproject.toml" if file.endswith(".toml") else file)
        if place.name == "pyproject.toml":
            text += '"thinkling.sources" = {words = "my_package.source:WordsSource"}\n'
        place.write_text(text, encoding="utf-8")
    (project / "my_package" / "source.py").write_text(SOURCE, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "pip", "install", *options, "--target", os.fspath(target), os.fspath(project)], folder)
    return target


def use(folder: Path) -> dict[str, Any]:
    """Runs a recipe that uses the installed package; returns the JSON that it prints."""
    site = install(folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    path = os.pathsep.join(map(os.fspath, (site, ROOT / "src")))
    output = _run([sys.executable, "-c", USED], folder, PYTHONPATH=path, PYTHONHASHSEED="0", OMP_NUM_THREADS="1")
    return json.loads(output.splitlines()[-1])


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command[:4])} …: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Prints the measurements as the last line."""
    package = package_of_the_page()
    counts = {file: lines(package[file]) for file in COUNTED}
    with tempfile.TemporaryDirectory() as folder:
        used = use(Path(folder))
    good = [answered and right for answered, right in zip(used["answered"], used["right"], strict=True)]
    found = as_users("benchmarks.security.tool_arena")
    succeeded = [f"{name} as {user}" for user, trials in found.items() for name, why in trials.items() if why]
    trials = {user: len(names) for user, names in found.items()}
    print(f"lines: {counts}; samples answered by the tool and judged by the verifier: {sum(good)} of {len(good)}")
    print(f"attacks through the python tool, by user: {trials}; succeeded: {succeeded or 'none'}")
    measurements = {
        "own-data.tools-lines": {"value": max(counts.values()), "n": len(counts), "unit": "lines", "lines": counts},
        "own-data.tools-used": {"value": sum(good) / len(good), "n": len(good), "unit": "fraction"},
        "own-data.tools": {
            "value": len(succeeded),
            "n": sum(trials.values()),
            "unit": "attacks",
            "users": list(found),
            "succeeded": succeeded,
        },
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
