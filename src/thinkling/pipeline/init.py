"""The `init` command: write a commented recipe for the user's model and data, which runs without further edits."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from thinkling.data.hub import is_repo
from thinkling.errors import UserError
from thinkling.pipeline import starters
from thinkling.pipeline.checks import check
from thinkling.pipeline.given import Data, Kind, look
from thinkling.pipeline.mistakes import nearest
from thinkling.pipeline.recipe import Recipe, load_recipe

WANTED: dict[str, tuple[Kind, ...]] = {
    "sft": ("conversations", "problems"),
    "rl": ("problems",),
    "posttrain": ("problems", "conversations", "pairs"),
    "pretrain": ("text",),
    "curate": ("text",),
}
"""Kind of recipe → the kinds of data it accepts, in order of preference."""
_ROW = 2048


@dataclass(frozen=True)
class Facts:
    """Properties of the machine, the model and the data from which a recipe is written."""

    name: str
    threads: int
    model: str | None
    template: str
    row: int
    """Tokens per row."""
    sources: dict[str, Data]
    heldout: str | None
    near_dedup: bool
    tokens: int
    """Estimated number of tokens of the text, at 4 bytes per token."""
    chat_tokens: int = 0
    """Lower estimate of the tokens of conversations and solutions: one token per 8 bytes of a file, because up to half
    of the file may be keys and punctuation."""
    problems: int = 0
    """Number of problems to train on."""


def write(kind: str, model: str | None, data: Sequence[str], heldout: str | None, output: Path) -> Iterator[str]:
    """Write the recipe and yield lines that report the recognised data and the next command.

    Raises UserError if a path does not exist or contains data of a different kind, or if the output file exists.
    """
    if kind not in WANTED:
        raise UserError(f"{kind}: unknown kind of recipe{nearest(kind, WANTED)}; choose from {', '.join(WANTED)}")
    if output.exists():
        raise UserError(f"{output}: the file exists already; choose a different file with -o")
    if not data:
        raise UserError(f"--data: missing; specify a file or folder of {' or '.join(WANTED[kind])}")
    needs_model = kind not in ("pretrain", "curate")
    if needs_model and model is None:
        raise UserError("--model: missing; specify a Hugging Face model directory or a model on the hub")
    if not needs_model and model is not None:
        raise UserError(f"--model: recipes of kind {kind} do not start from a model; omit --model")
    if heldout is not None and kind not in ("rl", "posttrain"):
        raise UserError(f"--heldout: recipes of kind {kind} do not evaluate on problems; omit --heldout")
    found = [look(entry, WANTED[kind]) for entry in data]
    if heldout is not None:
        look(heldout, ("problems",))
    facts = _facts(output, model, _named(found), heldout)
    text = starters.WRITERS[kind](facts)
    recipe = _checked(text, output)
    if needs_model and (problems := [n for n, d in facts.sources.items() if d.kind == "problems"]):
        summary = recipe.sources[problems[0]].summary() or ""
        count = int(re.match(r"\d+", summary)[0]) if re.match(r"\d+", summary) else 0  # pyright: ignore
        text = starters.WRITERS[kind](Facts(**{**facts.__dict__, "problems": count}))
        recipe = _checked(text, output)
    check(recipe, list(recipe.stages))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); choose a different file with -o") from error
    for name, one in facts.sources.items():
        yield f"sources.{name}: {one.path}: {one.kind} ({one.form})"
    if facts.template == "thinkling":
        yield f"chat template: thinkling's, because that of {model} is missing or would drop parts of the data"
    yield f"wrote {output}. Next: thinkling run {output}"


def _named(found: Sequence[Data]) -> dict[str, Data]:
    """Name each source after its kind of data: `chats`, `chats_2`, …"""
    names = {"conversations": "chats", "pairs": "preferences", "problems": "problems", "text": "docs"}
    sources: dict[str, Data] = {}
    for one in found:
        base, number = names[one.kind], 1
        while (name := base if number == 1 else f"{base}_{number}") in sources:
            number += 1
        sources[name] = one
    return sources


def _facts(output: Path, model: str | None, sources: dict[str, Data], heldout: str | None) -> Facts:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", output.stem).lstrip("-._") or "my"
    text = [one.path for one in sources.values() if one.kind == "text"]
    given = [path for one in sources.values() if one.kind in ("conversations", "problems") for path in _files(one.path)]
    chats = [one for one in sources.values() if one.kind == "conversations"]
    template, row = ("own", _ROW) if model is None else _model(model, chats)
    return Facts(
        name=name,
        threads=len(os.sched_getaffinity(0)),
        model=model,
        template=template,
        row=row,
        sources=sources,
        heldout=heldout,
        near_dedup=importlib.util.find_spec("rensa") is not None,
        tokens=sum(path.stat().st_size for entry in text for path in _files(entry)) // 4,
        chat_tokens=sum(path.stat().st_size for path in given) // 8,
    )


def _files(entry: str) -> list[Path]:
    from glob import glob

    folder = Path(entry).expanduser()
    found = (
        folder.rglob("*")
        if folder.is_dir()
        else [folder]
        if folder.is_file()
        else map(Path, glob(entry, recursive=True))
    )
    return [path for path in found if path.is_file()]


def _model(model: str, chats: Sequence[Data]) -> tuple[str, int]:
    """Return the value of `chat.template` that suits the data, and the number of tokens per row.

    Raises UserError if `model` is not a model directory, or if the model is not supported.
    """
    from thinkling.model.huggingface import read_config
    from thinkling.sources.models import ModelSource

    if not is_repo(model) and not Path(model).is_dir():
        raise UserError(f"--model {model}: no such directory; correct the path, or specify a model on the hub")
    directory = ModelSource(type="model", path=model).directory()
    if not (directory / "config.json").is_file():
        raise UserError(
            f"--model {model}: not a Hugging Face model directory, because it has no config.json; correct the path"
        )
    longest = read_config(directory).max_position_embeddings
    return ("own" if _own_template_fits(directory, chats) else "thinkling"), min(_ROW, longest)


def _own_template_fits(directory: Path, chats: Sequence[Data]) -> bool:
    """Whether the model's own template renders the first conversations of each source without dropping anything."""
    from thinkling.generate.config import ChatConfig
    from thinkling.generate.renderer import Renderer
    from thinkling.sources.conversations import SAMPLE, ConversationsSource

    try:
        renderer = Renderer.load(directory, ChatConfig())
        renderer.prompt([{"role": "user", "content": "x"}])
        for one in chats:
            source = ConversationsSource(type="conversations", path=one.path).bind("chats", {})
            for _, conversation in zip(range(SAMPLE), source.conversations(None, 0), strict=False):
                renderer.encoded(conversation.messages, list(conversation.tools) or None)
    except UserError:
        return False
    return True


def _checked(text: str, output: Path) -> Recipe:
    """Load the recipe as `run` would. Errors report the name of the file that will be written."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / output.name
        path.write_text(text, encoding="utf-8")
        return load_recipe(path)


def quoted(path: str) -> str:
    """Return a path as a YAML scalar, without quotes if possible."""
    plain = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./*-]*", path) and yaml.safe_load(path) == path
    return path if plain else json.dumps(path, ensure_ascii=False)
