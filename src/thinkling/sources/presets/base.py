"""What a preset is: how one record of a published problem set becomes a problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
BOXED_TEMPLATE = "{question}\nPut the final answer in \\boxed{}."
BOXED_ANSWER = "The answer is \\boxed{{answer}}."
CODE_ANSWER = "```python\n{answer}\n```"


class BadRecord(ValueError):
    """A record that is no problem. The reason is short and the same for all of its kind: records are counted by it."""


@dataclass(frozen=True)
class Step:
    """Reasoning up to a call of the calculator, and the call; `expression` is empty in the last step."""

    reasoning: str
    expression: str = ""
    result: str = ""


@dataclass(frozen=True)
class Item:
    """What one record says."""

    question: str
    answer: str
    """In the form that the verifier compares with."""
    solution: str = ""
    """Reasoning that leads to the answer; empty where it is not known."""
    steps: tuple[Step, ...] = ()
    """The same reasoning cut at the calculator's calls, where it is annotated with them."""
    system: str = ""
    family: str = ""
    id: str = ""
    """The record's own name for itself, where the recipe says which key holds it."""
    tests: tuple[str, ...] = ()
    hidden_tests: tuple[str, ...] = ()
    setup: str = ""
    """Code that runs before the program and before its tests."""
    choices: tuple[str, ...] = ()
    """The options in the order of their letters, where letters answer."""
    identity: str = ""
    """What makes it the same problem as another, where that is not the question."""
    bare: str = ""
    """The question without instructions, where the preset adds some."""


@dataclass(frozen=True)
class Preset:
    """A form of problem set."""

    keys: Mapping[str, tuple[str, ...]]
    """What a record holds → the keys under which it may be; `fields` of a source names others."""
    read: Callable[[Found, int], Item]
    """A record, and the source's seed → the item. Raises BadRecord."""
    verifier: str
    template: str = "{question}"
    answer_template: str = "{answer}"
    calculator_calls: bool = False
    """Whether its solutions are annotated with calls of the calculator."""
    answer_is_solution: bool = False
    """Whether the answer is shown as the solution, without reasoning: a program."""


@dataclass(frozen=True)
class Found:
    """A record, with its values found by what they mean."""

    record: Record
    keys: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, str] = field(default_factory=dict)
    """What a record holds → its key, or keys joined by dots, as the recipe says."""

    def get(self, meaning: str) -> Any:
        """The value, or None."""
        if meaning in self.fields:
            return dig(self.record, self.fields[meaning])
        return next((self.record[key] for key in self.keys.get(meaning, ()) if self.record.get(key) is not None), None)

    def text(self, meaning: str) -> str:
        """The value as text, stripped. Raises BadRecord if there is none."""
        found = self.text_or_empty(meaning)
        if not found:
            raise BadRecord(f"no {meaning}")
        return found

    def text_or_empty(self, meaning: str) -> str:
        """The value as text, stripped; numbers are written out. Raises BadRecord for lists and the like."""
        value = self.get(meaning)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadRecord(f"{meaning} is not text")
        return checked_text(str(value), meaning).strip()

    def texts(self, meaning: str) -> list[str] | None:
        """The value as a list of texts, or None. Raises BadRecord if it is something else."""
        value = self.get(meaning)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise BadRecord(f"{meaning} is not a list of texts")
        return [checked_text(text, meaning) for text in value]

    def json(self, meaning: str) -> Any:
        """The value, parsed if it is JSON text. Raises BadRecord if it is none."""
        value = self.get(meaning)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"{meaning} is not JSON") from error


def dig(record: Record, path: str) -> Any:
    """The value under a key, or under keys joined by dots, one in the other; None without one."""
    if path in record:
        return record[path]
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def checked_text(text: str, meaning: str) -> str:
    """The text. Raises BadRecord if no file could hold it: JSON can spell half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"{meaning} is not UTF-8") from error
    return text


def lines(text: str) -> str:
    """With Unix line ends, stripped."""
    return re.sub(r"\r\n?", "\n", text).strip()
