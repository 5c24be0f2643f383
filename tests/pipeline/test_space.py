"""The disk space that a run needs: estimated before stage 1, on the upper side."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import read_config, save_pretrained
from thinkling.pipeline import doctor, plan, space
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.pipeline.runner import Run, execute
from thinkling.pipeline.stage_space import Model, Spaces, size_of

RECIPES = Path(__file__).parents[2] / "recipes"
Usage = namedtuple("Usage", "total used free")
WEIGHTS = 3_933_637_120
"""Parameters of the 3B model with 166,144 tokens, counted by hand in test_plan.py."""


def quiet() -> Console:
    return Console(record=True, width=200, file=open("/dev/null", "w"))


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(1e15), 0, int(free)))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, and chats beside it."""
    folder = tmp_path_factory.mktemp("material")
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "apples",
        "pears",
        "rivers",
        "stones",
        "cloud",
        "morning",
    ]
    said = [f"{words[n % 16]} {words[n // 16 % 16]} {words[n * 7 % 16]} make {n}" for n in range(400)]
    chats = [
        {"messages": [{"role": "user", "content": f"What do {words[n % 16]}?"}, {"role": "assistant", "content": text}]}
        for n, text in enumerate(said)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    tokenizer = train_bpe(said * 3, 300, chat_template=OURS.source)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = Decoder(ModelConfig.model_validate({"vocab_size": tokenizer.vocab_size, **shape, **heads}))
    tokenizer.save(folder / "tokenizer")
    save_pretrained(model, folder / "start", folder / "tokenizer", {}, tokenizer.stop_ids)
    return folder


@pytest.fixture
def start(material: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own."""
    return Path(shutil.copytree(material, tmp_path / "mine"))


def sft(folder: Path, **changes: Any) -> Run:
    """One sft stage on 400 chats."""
    stage = {"kind": "sft", "inputs": {"model": "start"}, "examples": {"source": "chats"}, "epochs": 1,
             "sequence_length": 64, "batch_size": 16, "checkpoint_every": 2, **changes}  # fmt: skip
    recipe = {
        "name": "mine",
        "sources": {
            "start": {"type": "model", "path": str(folder / "start")},
            "chats": {"type": "conversations", "path": str(folder / "chats.jsonl")},
        },
        "stages": {"sft": {"optimizer": {"lr": 1.0e-3}, **stage}},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return Run(load_recipe(folder / "mine.yaml"), folder / "runs")


def needed(run: Run) -> space.Needed:
    return space.needed(run, run.states())


def pretraining(stage: dict[str, Any]) -> Recipe:
    """The 3B model on some pages; its tokenizer is 166,144 tokens."""
    raw = yaml.safe_load((RECIPES / "nanbeige4-3b.yaml").read_text())
    phases = [{"name": "one", "tokens": "100M", "learning_rate": 1.0e-3, "mixture": {"mq-topics": 1}}]
    base = {"kind": "pretrain", "inputs": {"tokens": "tokenize"}, "sequence_length": 4096, "batch_tokens": 4096}
    fields = {
        "name": "large",
        "model": {**raw["model"], "vocab_size": 166_144},
        "tokenizer": {"vocab_size": 166_144},
        "sources": {"topics": {"type": "python_stdlib", "part": "topics"}},
        "stages": {
            "curate": {"kind": "curate", "sources": ["topics"], "quality": {"topics": "mq"}},
            "tokenize": {"kind": "tokenize", "inputs": {"documents": "curate"}},
            "pretrain": {**base, "phases": phases, "optimizer": {"name": "adamw"}, **stage},
        },
    }
    return Recipe.model_validate(fields)


DECAY = {"name": "one", "tokens": "100M", "learning_rate": 1.0e-3, "mixture": {"mq-topics": 1}, "decay": True}


@pytest.mark.parametrize(
    ("stage", "kept", "peak"),
    [
        ({}, 4, 3 * 12),  # three training states of weights and two moments
        ({"precision": {"weights": "bfloat16"}}, 2, 3 * 6),
        ({"keep_state": True}, 4 + 12, 2 * 12 + 4 + 12),  # model and state are written beside two checkpoints
        ({"checkpoint_every": 100_000}, 4, 12 + 4),  # only the one after the last step
        ({"average": {"every": 5}, "phases": [DECAY]}, 4, 3 * 16),  # the average is part of every checkpoint
        ({"average": {"every": 5}, "phases": [DECAY], "keep_state": True}, 4 + 12, 2 * 16 + 4 + 12),  # but not kept
    ],
)
def test_weights_and_checkpoints_are_counted_exactly(stage: dict[str, Any], kept: int, peak: int) -> None:
    recipe = pretraining(stage)
    spaces = Spaces(recipe)
    found = [spaces.of(name) for name in recipe.stages][-1]
    assert found.sure_kept == kept * WEIGHTS
    assert found.sure_peak == peak * WEIGHTS
    assert found.sure_peak < found.peak < 1.01 * found.sure_peak
    assert found.unknown == ()


def test_muon_keeps_one_moment_of_the_matrices_in_layers() -> None:
    recipe = pretraining({"optimizer": {"name": "muon", "lr": 1.0e-3}})
    spaces = Spaces(recipe)
    for name in recipe.stages:
        spaces.of(name)
    model, config = spaces.made["pretrain"], recipe.stages["pretrain"]
    assert isinstance(model, Model)
    assert model.state(config) == 12 * WEIGHTS - 4 * model.in_layers  # pyright: ignore[reportArgumentType]


def test_checkpoints_of_adapters_do_not_contain_the_weights(start: Path) -> None:
    run, plain = sft(start, lora={"rank": 8, "targets": ["v_proj"]}), sft(start)
    found, whole = (Spaces(each.recipe).of("sft") for each in (run, plain))
    model = read_config(start / "start")
    adapters = 4 * 8 * model.num_hidden_layers * (model.hidden_size + model.num_key_value_heads * model.head_dim)
    assert found.sure_kept == whole.sure_kept + adapters
    assert found.sure_peak == found.sure_kept + 2 * 3 * adapters < whole.sure_peak


def test_adapters_for_layers_that_the_model_lacks_are_refused_before_stage_1(start: Path) -> None:
    run = sft(start, lora={"targets": ["q_proj", "qkv_proj"]})
    message = r"stages\.sft\.lora\.targets: \w+ models have no layer 'qkv_proj'; use some of q_proj, k_proj"
    with pytest.raises(UserError, match=message):
        execute(run, quiet())
    with pytest.raises(UserError, match=message):
        plan.show(run.recipe, start / "runs", quiet())
    assert not (start / "runs").exists()


class Watch:
    """The largest size that each stage's directory has while the run works."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.largest = directory, Counter[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            for path in self.directory.glob("*.partial"):
                try:
                    name = path.name.rpartition("-")[0]
                    self.largest[name] = max(self.largest[name], int(size_of(path)))
                except OSError:
                    continue  # a file was renamed meanwhile

    def __enter__(self) -> Counter[str]:
        self._thread.start()
        return self.largest

    def __exit__(self, *raised: Any) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": {"name": "muon", "lr": 1.0e-3}}, {"keep_state": True}, {"lora": {"rank": 8}}]
)
def test_what_sft_takes_is_at_most_the_estimate_and_at_least_half_of_it(start: Path, changes: dict[str, Any]) -> None:
    run = sft(start, **changes)
    estimate = Spaces(run.recipe).of("sft")
    with Watch(run.directory) as largest:
        (done,) = execute(run, quiet())
    assert size_of(done.artifact.path) <= estimate.kept <= 2 * size_of(done.artifact.path)
    assert largest["sft"] <= estimate.peak <= 2 * largest["sft"]


def test_finished_stages_do_not_count(start: Path) -> None:
    run = sft(start)
    assert needed(run).most > 1e6
    execute(run, quiet())
    found = needed(run)
    assert found.most == found.surely == 0
    assert found.line().startswith("disk: nothing left to write, ")


def test_what_a_killed_stage_has_written_does_not_count(start: Path) -> None:
    run = sft(start)
    before = needed(run)
    ((_, _, path),) = run.states()
    assert path is not None
    partial = path.with_name(path.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "tokens.bin").write_bytes(b"x" * 300_000)
    after = needed(run)
    assert before.most - after.most == pytest.approx(300_000)
    assert before.surely - after.surely == pytest.approx(300_000)


def test_run_refuses_what_surely_does_not_fit_before_anything_is_written(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sft(start, keep_state=True)
    free_bytes(monkeypatch, 1000)
    with pytest.raises(UserError) as refused:
        execute(run, quiet())
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"{start}/runs: stages.sft needs at least 3.7 MB ")
    for part in (
        "0.0 MB is free",
        "free some space",
        "--runs",
        "stages.sft.keep_state: false",
        "stages.sft.checkpoint_every",
    ):
        assert part in line
    assert not (start / "runs").exists()


def test_run_warns_of_what_may_not_fit(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = sft(start, max_steps=1)
    free_bytes(monkeypatch, needed(run).most * 1.05)
    console = quiet()
    execute(run, console)
    shown = console.export_text()
    assert "warning: disk: about 1." in shown
    assert ": may not be enough" in shown


def test_no_line_where_there_is_room(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 1e12)
    console = quiet()
    execute(sft(start, max_steps=1), console)
    assert "disk" not in console.export_text()


@pytest.mark.parametrize(
    ("share", "level", "end"),
    [(1000, "ok", "free in {}"), (1.05, "note", "may not be enough"), (0.1, "missing", "not enough")],
)
def test_doctor_and_plan_say_the_same(
    start: Path, monkeypatch: pytest.MonkeyPatch, share: float, level: str, end: str
) -> None:
    """`share`: free space as a multiple of the estimate."""
    run = sft(start)
    free_bytes(monkeypatch, needed(run).most * share)
    (finding,) = [f for f in doctor.examine(run.recipe, start / "runs") if f.what == "disk"]
    console = Console(record=True, width=1000, file=open("/dev/null", "w"))  # noqa: SIM115
    plan.show(run.recipe, start / "runs", console)
    assert finding.level == level
    assert finding.detail.startswith("about ")
    assert finding.detail.endswith(end.format(start / "runs"))
    assert f"disk: {finding.detail}\n" in console.export_text()


def test_doctor_without_a_recipe_says_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 5e8)
    (finding,) = [f for f in doctor.examine(None, tmp_path / "runs") if f.what == "disk"]
    assert (finding.level, finding.detail) == ("note", f"500 MB free in {tmp_path}/runs")


def test_what_cannot_be_known_makes_it_at_least(tmp_path: Path) -> None:
    server = {"url": "http://127.0.0.1:9/v1", "model": "m", "max_new_tokens": 100}
    raw = yaml.safe_load((RECIPES / "nano.yaml").read_text())
    refine = {
        "kind": "refine",
        "inputs": {},
        "problems": {"source": "puzzles", "n_problems": 4},
        "drafters": [server],
        "checklist": server,
        "evaluators": [server],
        "reviser": server,
        "chain": server,
    }
    given = Recipe.model_validate(
        {"name": "served", "sources": {"puzzles": raw["sources"]["puzzles"]}, "stages": {"refine": refine}}
    )  # fmt: skip
    line = needed(Run(given, tmp_path / "runs")).line()
    assert line.startswith("disk: at least ")
    assert "(not counted: replies of served models in stages.refine)" in line


def test_stages_need_what_the_ones_before_them_keep(start: Path) -> None:
    first = sft(start)
    alone = needed(first)
    raw = first.recipe.model_dump(mode="json")
    raw["stages"]["more"] = {**raw["stages"]["sft"], "inputs": {"model": "sft"}}
    both = needed(Run(Recipe.model_validate(raw), start / "runs"))
    kept = Spaces(first.recipe).of("sft").kept
    assert both.most - alone.most == pytest.approx(kept, rel=0.05)
    assert both.stage == "more"


@pytest.mark.slow
def test_nano_takes_at_most_what_is_estimated_for_each_stage(tmp_path: Path) -> None:
    run = Run(load_recipe(RECIPES / "nano.yaml"), tmp_path)
    spaces = Spaces(run.recipe)
    estimates = {name: spaces.of(name) for name in run.recipe.stages}
    with Watch(run.directory) as largest:
        done = {one.name: one.artifact.path for one in execute(run, quiet())}
    parts = size_of(run.directory / "parts")
    for name, estimate in estimates.items():
        kind = run.recipe.stages[name].kind
        kept = size_of(done[name]) + (parts if kind == "curate" else 0)
        peak = largest[name] + (parts if kind == "curate" else 0)
        assert kept <= estimate.kept, name
        assert peak <= estimate.peak, name
        if kind in ("curate", "tokenize", "pretrain", "sft", "dpd", "rl"):
            assert estimate.peak <= 2 * peak, name
