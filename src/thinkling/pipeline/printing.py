"""Printing of records in a terminal. Long texts are clipped, turns have the colour of their role, reasoning is dimmed,
and a verdict is printed first."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from thinkling.errors import UserError
from thinkling.generate.config import ChatConfig
from thinkling.generate.renderer import Renderer, load_renderer
from thinkling.pipeline.forms import Row
from thinkling.pipeline.records import Table as Records
from thinkling.pipeline.stage_folders import StageFolder

ROLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
OUTCOMES = {"right": "bold green", "wrong": "bold red"}
"""Verdict → its style. All other verdicts are yellow."""
PARTS = {
    "reasoning": ("thinking", "dim"),
    "call": ("call", ROLES["tool"]),
    "response": ("response", ROLES["tool"]),
    "answer": ("answer", ROLES["assistant"]),
}
"""Kind of part of a completion → its label and its style."""
LABEL = 9
"""Minimum width of a label in columns."""
LONGEST = 800
"""Maximum number of characters of a text that are shown unless texts are printed in full."""


def visible(text: str) -> str:
    """Replace control characters and invisible characters, which could control the terminal or hide text."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return " " if unicodedata.category(character) == "Zs" else "\ufffd"


def clip(text: str, width: int) -> str:
    """Return the text as one line of at most `width` columns. A clipped text ends with its full length."""
    line = " ↵ ".join(part.strip() for part in visible(text).strip().split("\n") if part.strip())
    if len(line) <= width:
        return line
    note = f" … {len(text):,} characters"
    return line[: max(width - len(note), 1)].rstrip() + note


def block(text: str, whole: bool = False) -> str:
    """Return the text with its line breaks. Unless `whole`, a long text is clipped and ends with its full length."""
    shown = visible(text).strip("\n")
    if whole or len(shown) <= LONGEST:
        return shown
    return f"{shown[:LONGEST].rstrip()} … {len(text):,} characters"


def say(console: Console, text: Text | str, indent: int = 2) -> None:
    """Print a paragraph, folded at the width of the console."""
    folded = text if isinstance(text, Text) else Text(text)
    folded.overflow = "fold"
    console.print(Padding(folded, (0, 0, 0, indent), expand=False))


def labelled(console: Console, label: str, text: str, style: str = "", indent: int = 4) -> None:
    """Print a label and a text to the right of it, folded at the width of the console and aligned."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=LABEL, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label, style="bold"), Text(text, style=style))
    console.print(Padding(grid, (0, 0, 0, indent), expand=False))


def head(*facts: str, outcome: str | None = None) -> Text:
    """Join facts into one line, with the verdict first if there is one. Empty facts are omitted."""
    first = [] if outcome is None else [(outcome, OUTCOMES.get(outcome, "bold yellow"))]
    rest = " · ".join(visible(fact) for fact in facts if fact)
    return Text.assemble(*first, (" · " if first and rest else "", ""), (rest, "bold"))


def turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield (label, text, style) for each part of a conversation."""
    for message in messages:
        role = message["role"]
        loss = "" if message.get("loss") is not False else " (no loss)"
        if message.get("reasoning_content"):
            yield f"thinking{loss}", message["reasoning_content"], "dim"
        if message.get("content"):
            yield f"{role}{loss}", message["content"], ROLES.get(role, "")
        for call in _calls(message.get("tool_calls")):
            function = call["function"]
            spelled = f"{function['name']} {json.dumps(function['arguments'], ensure_ascii=False)}"
            yield f"call{loss}", spelled, ROLES["tool"]


def _calls(value: Any) -> list[Any]:
    return json.loads(value) if isinstance(value, str) else value or []


@dataclass(frozen=True)
class _Completion:
    tokens: list[int]
    forced: list[bool]


@dataclass
class Reader:
    """Parser of rollouts that uses the template of the model that sampled them, if the run contains that model."""

    _renderers: dict[tuple[Path, str], Renderer | None] = field(default_factory=dict)

    def parts(self, table: Records, row: Row) -> list[tuple[str, str, str]]:
        """Return (label, text, style) of each part of a completion, or of the whole completion if there is no
        renderer."""
        renderer = self._renderer(table)
        read = renderer.read(_Completion(row["tokens"], row["forced"])).parts if renderer and row["tokens"] else ()
        found = [(PARTS[part.kind][0], part.text, PARTS[part.kind][1]) for part in read]
        return found or [("text", row["text"], "")]

    def _renderer(self, table: Records) -> Renderer | None:
        settings, task_set = table.folder.settings, table.name.rpartition("/")[2]
        sets = settings.get("task_sets") or (settings.get("evaluation") or {}).get("task_sets") or {}
        key = table.folder.path, sets.get(task_set, {}).get("renderer", "chat")
        if key not in self._renderers:
            self._renderers[key] = _load(table.folder, key[1])
        return self._renderers[key]


def _load(folder: StageFolder, renderer: str) -> Renderer | None:
    """Load the renderer of a stage's model, or None if the run did not train the model or the renderer is missing."""
    trained = (folder.path / "model").is_dir()
    stage = folder.path if trained else folder.input("model")
    if stage is None or not (stage / "model").is_dir():
        return None
    chat = ChatConfig() if trained else ChatConfig.model_validate(folder.settings.get("chat", {}))
    try:
        return load_renderer(renderer, stage / "model", chat)
    except UserError:
        return None


def n_tokens(row: Row) -> int:
    """Return the number of tokens that the model itself sampled, without forced tokens."""
    return len(row["tokens"]) - sum(row["forced"])


@dataclass
class Page:
    """Printer of the history of one id."""

    console: Console
    identity: str
    whole: bool
    """Whether texts are printed in full."""
    reader: Reader = field(default_factory=Reader)
    told: set[tuple[str, str]] = field(default_factory=set)
    """Questions and references already printed for the current stage, because several tables of a stage may contain the
    same ones."""

    def stage(self, folder: StageFolder) -> None:
        """Print the heading of a stage."""
        self.told.clear()
        self.console.print(Text.assemble((folder.stage, "bold underline"), (f"  {folder.path.name}", "dim")))

    def say(self, *facts: str, outcome: str | None = None) -> None:
        """Print a line of facts."""
        say(self.console, head(*facts, outcome=outcome))

    def text(self, label: str, text: str | None, style: str = "") -> None:
        """Print a labelled text, clipped to one line unless `whole`. Print nothing if the text is missing or empty."""
        if not text or (label, text) in self.told:
            return
        if label in ("question", "reference"):
            self.told.add((label, text))
        room = self.console.width - 5 - max(len(label), LABEL)
        labelled(self.console, label, block(text, whole=True) if self.whole else clip(text, room), style)

    def fact(self, label: str, text: str) -> None:
        """Print a labelled text without clipping it."""
        labelled(self.console, label, visible(text))
