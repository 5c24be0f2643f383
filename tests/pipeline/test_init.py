"""`thinkling init`: the recipe that it writes is accepted as it is, for every form of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.own_data.tiny_models import write_model
from thinkling.errors import UserError
from thinkling.pipeline import doctor, plan
from thinkling.pipeline.init import WANTED, write
from thinkling.pipeline.recipe import load_recipe

CHATS = [
    {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "Yes."}]} for i in range(9)
]
THINKING = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
]
GSM8K = [{"question": f"What is {i} plus 2?", "answer": f"{i}+2={i + 2}\n#### {i + 2}"} for i in range(40)]
PAIRS = [{"prompt": f"{i}?", "chosen": "Yes.", "rejected": "No."} for i in range(9)]


def lines(path: Path, records: list[Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path.name


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    write_model(directory, "qwen3", [json.dumps(CHATS), json.dumps(GSM8K)])
    return directory


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accepted(path: Path) -> None:
    """By plan and by doctor, with nothing missing."""
    recipe = load_recipe(path)
    plan.show(recipe, path.parent / "runs", Console(quiet=True))
    assert [found for found in doctor.examine(recipe) if found.level == "missing"] == []


@pytest.mark.parametrize("kind", WANTED)
def test_what_it_writes_passes_plan_and_doctor_as_it_is(kind: str, folder: Path, model: Path) -> None:
    data = {
        "sft": [lines(folder / "chats.jsonl", CHATS)],
        "rl": [lines(folder / "problems.jsonl", GSM8K)],
        "posttrain": ["chats.jsonl", "problems.jsonl", lines(folder / "pairs.jsonl", PAIRS)],
        "pretrain": [lines(folder / "docs.jsonl", [{"text": f"Document {i}. " * 50} for i in range(50)])],
        "curate": ["docs.jsonl"],
    }[kind]
    for name, records in (
        ("chats", CHATS),
        ("problems", GSM8K),
        ("docs", [{"text": "Text. " * 9}]),
    ):
        if not (folder / f"{name}.jsonl").exists():
            lines(folder / f"{name}.jsonl", records)
    chosen = None if kind in ("pretrain", "curate") else str(model)
    said = list(write(kind, chosen, data, None, Path("my.yaml")))
    assert said[-1] == "wrote my.yaml. Next: thinkling run my.yaml"
    assert load_recipe(Path("my.yaml")).name == "my"
    accepted(Path("my.yaml"))


def test_posttrain_has_the_stages_that_the_data_allow(folder: Path, model: Path) -> None:
    chats, pairs = lines(folder / "c.jsonl", CHATS), lines(folder / "p.jsonl", PAIRS)
    list(write("posttrain", str(model), [chats, pairs], None, Path("two.yaml")))
    assert list(load_recipe(Path("two.yaml")).stages) == ["sft", "dpd"]
    list(write("posttrain", str(model), [lines(folder / "g.jsonl", GSM8K)], None, Path("one.yaml")))
    assert list(load_recipe(Path("one.yaml")).stages) == ["before", "rl", "after"]


def test_a_template_that_would_drop_the_reasoning_is_replaced(folder: Path, model: Path) -> None:
    plain = folder / "plain"
    plain.mkdir()
    for file in model.iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    (plain / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    data = lines(folder / "chats.jsonl", [{"messages": THINKING}] * 3)
    said = list(write("sft", str(plain), [data], None, Path("my.yaml")))
    assert any(line.startswith("chat template: thinkling's") for line in said)
    accepted(Path("my.yaml"))


def test_paths_with_blanks_and_signs_are_written_as_they_are(folder: Path, model: Path) -> None:
    data = lines(folder / "my: chats, #1 'x'.jsonl", CHATS)
    list(write("sft", str(model), [data], None, Path("my.yaml")))
    accepted(Path("my.yaml"))


def test_a_text_folder_is_read_whole(folder: Path) -> None:
    (folder / "notes" / "deep").mkdir(parents=True)
    for name in ("notes/a.txt", "notes/deep/b.txt"):
        (folder / name).write_text("Some text. " * 30)
    list(write("curate", None, ["notes"], None, Path("my.yaml")))
    source = load_recipe(Path("my.yaml")).sources["docs"]
    assert source.summary() == "2 files"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sfft", "m", ["chats.jsonl"], None), "did you mean 'sft'"),
        (("sft", None, ["chats.jsonl"], None), "--model: missing"),
        (("sft", "absent", ["chats.jsonl"], None), "--model absent: no such directory"),
        (("sft", "m", [], None), "--data: missing"),
        (("sft", "m", ["absent.jsonl"], None), "--data absent.jsonl: no such file"),
        (("rl", "m", ["chats.jsonl"], None), r"it contains conversations \(messages\), not problems"),
        (("sft", "m", ["odd.jsonl"], None), "have the fields x, y"),
        (("curate", "m", ["odd.jsonl"], None), "--model: recipes of kind curate do not start from a model"),
        (("sft", "m", ["chats.jsonl"], "chats.jsonl"), "--heldout: recipes of kind sft do not evaluate on problems"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(folder: Path, model: Path, arguments: Any, said: str) -> None:
    lines(folder / "chats.jsonl", CHATS)
    lines(folder / "odd.jsonl", [{"x": "1", "y": [2]}])
    (folder / "m").symlink_to(model)
    with pytest.raises(UserError, match=said):
        list(write(*arguments, Path("my.yaml")))
    assert not Path("my.yaml").exists()


def test_it_overwrites_nothing(folder: Path, model: Path) -> None:
    Path("my.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"my\.yaml: the file exists already"):
        list(write("sft", str(model), [lines(folder / "c.jsonl", CHATS)], None, Path("my.yaml")))
    assert Path("my.yaml").read_text() == "mine"
