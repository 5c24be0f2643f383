"""CONTRIBUTING.md and "Adding a stage" in docs/ARCHITECTURE.md, followed to the letter: their files are made and used.

What comes from a package is used with the package as it is; a patch is applied to a copy of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STAGE = (
    (ROOT / "docs" / "ARCHITECTURE.md")
    .read_text(encoding="utf-8")
    .partition("## Adding a stage\n")[2]
    .partition("\n## ")[0]
)
BLOCK = re.compile(r"^```(?P<language>\w+) (?P<file>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PYPROJECT = "my_package/pyproject.toml"
CHANGES = {
    "problem format": "**A source",
    "tool": "**A tool",
    "reward": "**A reward",
    "family": "**A decoder family",
    "tracker": "**A tracker",
    "schedule shape": "**A schedule shape",
}
"""Kind of change → how its paragraph starts."""


def blocks(text: str) -> dict[str, tuple[str, str]]:
    """File → language and text of its fenced block."""
    found = [(b["file"], (b["language"], b["text"])) for b in BLOCK.finditer(text)]
    assert len(dict(found)) == len(found), "two blocks of one file"
    return dict(found)


def paragraph(start: str) -> str:
    """A change's paragraph with its blocks, up to the next bold one or heading."""
    [found] = re.findall(rf"^{re.escape(start)}.*?(?=^\*\*|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def entry_points() -> dict[str, dict[str, str]]:
    """Group → name → object, of the page's pyproject.toml."""
    return tomllib.loads(blocks(PAGE)[PYPROJECT][1])["project"]["entry-points"]


def touched(start: str) -> list[str]:
    """Files of a change: those of its blocks, and pyproject.toml where they are entry points."""
    files = list(blocks(paragraph(start)))
    modules = {value.partition(":")[0] for group in entry_points().values() for value in group.values()}
    return files + [PYPROJECT] * any(file.removesuffix(".py").replace("/", ".") in modules for file in files)


def trials() -> dict[str, list[str]]:
    """Kind of change → the files that a contributor touches, besides docs and tests."""
    return {kind: touched(start) for kind, start in CHANGES.items()}


def patched(text: str, patch: str) -> str:
    """Applies a diff without line numbers; `@@` parts its hunks. Each must fit in exactly one place."""
    for hunk in patch.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        starts = [found.start() for found in re.finditer(f"^{re.escape(old)}", text, re.MULTILINE)]
        assert len(starts) == 1, f"fits in {len(starts)} places:\n{hunk}"
        text = text[: starts[0]] + new + text[starts[0] + len(old) :]
    return text


def install(folder: Path) -> None:
    """Writes the page's package, and what pip would write for its entry points."""
    for file, (language, text) in blocks(PAGE).items():
        if file.startswith("my_package/") and language == "python":
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in entry_points().items()
    ]
    about = folder / "my_package-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


def change(package: Path) -> None:
    """Makes the page's changes to a copy of the repository's `src`."""
    for file, (language, text) in blocks(PAGE + STAGE).items():
        if not file.startswith("src/"):
            continue
        path = package / file.removeprefix("src/")
        if language == "diff":
            path.write_text(patched(path.read_text("utf-8"), text), encoding="utf-8")
        else:
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")


def python(code: str, folder: Path, *path: Path) -> dict[str, Any]:
    """What a new interpreter prints, as JSON on its last line, with the folders at the head of its path."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


RECIPE = """
name: r
model: {hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
  head_dim: 8, max_position_embeddings: 64}
tokenizer: {vocab_size: 290}
sources:
  text: {type: text, paths: ["*.txt"]}
  quiz: {type: quiz, path: quiz.tsv, verifier: same_letters}
stages:
  curate: {kind: curate, sources: [text], quality: {text: hq}}
  tokenize: {kind: tokenize, inputs: {documents: curate}, validation_fraction: 0}
  pretrain:
    kind: pretrain
    inputs: {tokens: tokenize}
    sequence_length: 32
    batch_tokens: 64
    validation_rows: 0
    optimizer: {name: adamw, lr: 1.0e-3}
    phases: [{name: a, tokens: 128, learning_rate: 1.0e-3, mixture: {hq-text: 1}}]
  evaluate:
    kind: evaluate
    inputs: {model: pretrain}
    k: 1
    max_new_tokens: 4
    task_sets: {quiz: {source: quiz}}
"""
RUN = """
import json
from pathlib import Path
from rich.console import Console
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute
def run(*overrides):
    recipe = load_recipe(Path("recipe.yaml"), list(overrides))
    return {d.name: d.artifact.path for d in execute(Run(recipe, Path("runs")), Console(stderr=True))}
"""
USED = (
    RUN
    + """
import torch
from dataclasses import replace
from thinkling.data.reading import Reading
from thinkling.generate.rollouts import Rollout
from thinkling.data.reading import Call
from thinkling.generate.tools import Toolbox, listings
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.model.loss import chunked_cross_entropy
from thinkling.stages.rl.config import RewardedProblemsConfig
from thinkling.stages.rl.rewards import reward_of
from thinkling.verify.registry import verify

done = run("trackers={csv: {}}")
found = {"scores": json.loads((done["evaluate"] / "scores.json").read_text())}
found["metrics"] = [json.loads(line) for line in (done["pretrain"] / "metrics.jsonl").read_text().splitlines()]
found["csv"] = Path("runs/r/csv/pretrain.csv").read_text().splitlines()

quiz = load_recipe(Path("recipe.yaml")).sources["quiz"]
problems = {split: quiz.problems(split) for split in ("train", "heldout")}
found["problems"] = {split: len(many) for split, many in problems.items()}
problem = problems["train"][0]
found["verdicts"] = [verify(problem, Reading.of(answer)).outcome for answer in (problem.answer[::-1], "no")]

calls = [Call("letters", {"text": "listen"}), Call("letters", {"t": "listen"})]
found["tool"] = [Toolbox(["letters"]).answer(call) for call in calls]
found["listing"] = listings(["letters"])[0]["function"]["name"]

rollout = Rollout("p", "f", 0, "q", "1", "1", "right", "exact", "", False, "stop", [1], [2] * 4, [], [], [])
config = RewardedProblemsConfig.model_validate({"source": "quiz", "rewards": {"verdict": 1, "brevity": 2}})
found["rewards"] = reward_of(config, None, {})([(problem, [rollout])]).rewards

shape = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": False}
model = Decoder(ModelConfig(architecture="seed_oss", **shape))
model.init_weights(torch.Generator().manual_seed(0))
for name, weight in model.named_parameters():
    if name.endswith("bias"):
        weight.data += 0.5
tokens = torch.randint(61, (2, 16), generator=torch.Generator().manual_seed(1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
found["losses"] = []
for _ in range(3):
    loss = chunked_cross_entropy(model(tokens).flatten(0, 1), model.output_weight, tokens.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    found["losses"].append(loss.item())
save_pretrained(model, Path("exported"))
again = load_pretrained(Path("exported"))
from transformers import SeedOssForCausalLM
peer = SeedOssForCausalLM.from_pretrained("exported")
with torch.no_grad():
    logits = model.logits(model(tokens))
    found["reloaded"] = torch.equal(again.logits(again(tokens)), logits)
    found["off_by"] = float((peer(input_ids=tokens).logits - logits).abs().max() / logits.abs().max())
print(json.dumps(found))
"""
)
CHANGED = (
    RUN
    + """
from thinkling.cli import app
from thinkling.pipeline.recipe import KINDS
from thinkling.train.schedule import warmup_stable_decay
done = run()
rates = warmup_stable_decay(8, 1.0, decay_fraction=0.5, shape="square")
found = {
    "counts": json.loads((done["count"] / "counts.json").read_text()),
    "rates": [rates(step) for step in range(8)],
    "verbs": [command.name for command in app.registered_commands],
}
print(json.dumps(found))
"""
)


def material(folder: Path, recipe: str) -> None:
    """A recipe and the files that it reads."""
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    for i in range(3):
        (folder / f"{i}.txt").write_text(f"{i}: the quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")
    words = ["listen", "enlist", "tinsel", "silent"] * 10
    rows = "".join(f"{i}: unscramble {word}\t{word}\n" for i, word in enumerate(words))
    (folder / "quiz.tsv").write_text(rows, encoding="utf-8")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of installing the page's package and using all of it."""
    folder = tmp_path_factory.mktemp("used")
    install(folder)
    material(folder, RECIPE)
    return python(USED, folder, folder, ROOT / "src")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of the page's changes to thinkling itself."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(ROOT / "src" / "thinkling", folder / "thinkling", ignore=shutil.ignore_patterns("__pycache__"))
    change(folder)
    recipe = "name: r\nsources:\n  text: {type: text, paths: ['*.txt']}\nstages:\n"
    recipe += "  curate: {kind: curate, sources: [text], quality: {text: hq}}\n"
    material(folder, recipe + "  count: {kind: count, inputs: {documents: curate}}\n")
    return python(CHANGED, folder, folder)


def test_every_file_of_the_page_is_used_by_a_change_that_is_tried() -> None:
    starts = [*CHANGES.values(), "**A verifier"]
    assert {file for start in starts for file in touched(start)} == set(blocks(PAGE))


def test_no_change_touches_more_than_three_files() -> None:
    assert all(1 <= len(files) <= 3 for files in trials().values()), trials()


def test_a_source_is_evaluated_on(used: dict[str, Any]) -> None:
    [score] = used["scores"]
    assert used["problems"]["train"] + used["problems"]["heldout"] == 40
    assert score["n"] == used["problems"]["heldout"] > 0
    assert sum(score["outcomes"].values()) == score["n"]


def test_a_verifier_judges(used: dict[str, Any]) -> None:
    assert used["verdicts"] == ["right", "wrong"]


def test_a_tool_answers(used: dict[str, Any]) -> None:
    assert used["tool"] == ["6", "error: letters takes one argument, text, a string"]
    assert used["listing"] == "letters"


def test_a_reward_counts_by_its_weight(used: dict[str, Any]) -> None:
    assert used["rewards"] == [[1.5]]


def test_a_family_trains_and_is_what_transformers_loads(used: dict[str, Any]) -> None:
    assert used["losses"][-1] < used["losses"][0]
    assert used["reloaded"]
    assert used["off_by"] <= 1e-5


def test_a_tracker_receives_what_is_logged(used: dict[str, Any]) -> None:
    losses = [line for line in used["csv"] if line.split(",")[1] == "loss"]
    assert losses == [f"{line['step']},loss,{line['loss']}" for line in used["metrics"]]
    assert len(losses) == 2


def test_a_schedule_shape_gives_rates(changed: dict[str, Any]) -> None:
    assert changed["rates"] == pytest.approx([1.0] * 4 + [1 - ((i + 0.5) / 4) ** 2 for i in range(4)])


def test_a_stage_runs_and_is_a_verb(changed: dict[str, Any]) -> None:
    assert changed["counts"] == {"documents": 3}
    assert "count" in changed["verbs"]


def test_a_patch_that_no_longer_fits_is_noticed() -> None:
    assert patched("a\nb\nc\n", " a\n+x\n@@\n-c\n+d\n") == "a\nx\nb\nd\n"
    for text in ("b\n", "a\na\n", "ba\n"):
        with pytest.raises(AssertionError, match="fits"):
            patched(text, " a\n+x\n")
