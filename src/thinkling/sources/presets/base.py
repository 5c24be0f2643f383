"""The interface of presets: converting one record of a published problem set to a problem."""

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
    """A record that is not a problem. The reason is short and identical for its kind: records are counted by it."""


@dataclass(frozen=True)
class Step:
    """Reasoning up to a calculator call, and the call; `expression` is empty in the last step."""

    reasoning: str
    expression: str = ""
    result: str = ""


@dataclass(frozen=True)
class Item:
    """The contents of one record."""

    question: str
    answer: str
    """In the form that the verifier compares with."""
    solution: str = ""
    """Reasoning that leads to the answer; empty if unknown."""
    steps: tuple[Step, ...] = ()
    """The same reasoning split at calculator calls, if it is annotated with them."""
    system: str = ""
    family: str = ""
    id: str = ""
    """The record's own id, if the recipe names its key."""
    tests: tuple[str, ...] = ()
    hidden_tests: tuple[str, ...] = ()
    setup: str = ""
    """Code that runs before the program and before its tests."""
    choices: tuple[str, ...] = ()
    """The options in the order of their letters, for answers that are letters."""
    identity: str = ""
    """What identifies duplicates of the problem, if it is not the question."""
    bare: str = ""
    """The question without instructions, if the preset adds some."""


@dataclass(frozen=True)
class Preset:
    """The format of a problem set."""

    keys: Mapping[str, tuple[str, ...]]
    """What a record contains → the keys under which it may be found; a source's `fields` overrides them."""
    read: Callable[[Found, int], Item]
    """Converts a record, given the source's seed, to an item. Raises BadRecord."""
    verifier: str
    template: str = "{question}"
    answer_template: str = "{answer}"
    calculator_calls: bool = False
    """Whether its solutions are annotated with calculator calls."""
    answer_is_solution: bool = False
    """Whether the answer is shown as the solution, without reasoning: a program."""


@dataclass(frozen=True)
class Found:
    """A record whose values are looked up by meaning."""

    record: Record
    keys: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, str] = field(default_factory=dict)
    """What a record contains → its key, or nested keys joined by dots, as set in the recipe."""

    def get(self, meaning: str) -> Any:
        """The value, or None."""
        if meaning in self.fields:
            return dig(self.record, self.fields[meaning])
        return next((self.record[key] for key in self.keys.get(meaning, ()) if self.record.get(key) is not None), None)

    def text(self, meaning: str) -> str:
        """The value as text, stripped. Raises BadRecord if it is missing."""
        found = self.text_or_empty(meaning)
        if not found:
            raise BadRecord(f"no {meaning}")
        return found

    def text_or_empty(self, meaning: str) -> str:
        """The value as text, stripped; numbers are converted to text. Raises BadRecord for lists and objects."""
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
        """The value, parsed if it is text. Raises BadRecord if that is not valid JSON."""
        value = self.get(meaning)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"{meaning} is not JSON") from error


def dig(record: Record, path: str) -> Any:
    """The value under a key, or under nested keys joined by dots; None if it is missing."""
    if path in record:
        return record[path]
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def checked_text(text: str, meaning: str) -> str:
    """The text. Raises BadRecord if it cannot be encoded: JSON can contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"{meaning} is not UTF-8") from error
    return text


def lines(text: str) -> str:
    """The text with Unix line endings, stripped."""
    return re.sub(r"\r\n?", "\n", text).strip()
