"""The interface of presets, which convert one record of a published problem set to a problem."""

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
    """Raised for a record that is not a problem.

    The message is a short reason without details of the record, because rejected records are counted by reason.
    """


@dataclass(frozen=True)
class Step:
    """Reasoning up to a calculator call, and the call itself. `expression` is empty in the last step."""

    reasoning: str
    expression: str = ""
    result: str = ""


@dataclass(frozen=True)
class Item:
    """The contents of one record."""

    question: str
    answer: str
    """The correct answer, in the form that the verifier expects."""
    solution: str = ""
    """Reasoning that leads to the answer; empty if unknown."""
    steps: tuple[Step, ...] = ()
    """The solution split at calculator calls, if it is annotated with them."""
    system: str = ""
    family: str = ""
    id: str = ""
    """The record's own id, if the recipe maps a key to it."""
    tests: tuple[str, ...] = ()
    hidden_tests: tuple[str, ...] = ()
    setup: str = ""
    """Code that runs before the program and before its tests."""
    choices: tuple[str, ...] = ()
    """The options in the order of their letters, if the answer is a letter."""
    identity: str = ""
    """Text that identifies duplicates of the problem; if empty, the question identifies them."""
    bare: str = ""
    """The question without instructions, if the preset adds instructions."""


@dataclass(frozen=True)
class Preset:
    """The format of a problem set."""

    keys: Mapping[str, tuple[str, ...]]
    """Maps each part of a problem to the keys under which a record may store it. The field `fields` of a source
    overrides these keys."""
    read: Callable[[Found, int], Item]
    """Converts a record to an item; the second argument is the source's seed. Raises BadRecord if the record is not a
    problem."""
    verifier: str
    template: str = "{question}"
    answer_template: str = "{answer}"
    calculator_calls: bool = False
    """Whether the solutions are annotated with calculator calls."""
    answer_is_solution: bool = False
    """Whether the answer is itself the solution, as is the case for a program, so that no reasoning is needed."""


@dataclass(frozen=True)
class Found:
    """A record whose values are looked up by meaning, for example by the meaning `question`."""

    record: Record
    keys: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, str] = field(default_factory=dict)
    """Maps a meaning to its key in the record, as set in the recipe. Nested keys are joined by dots."""

    def get(self, meaning: str) -> Any:
        """Returns the value, or None if it is missing."""
        if meaning in self.fields:
            return dig(self.record, self.fields[meaning])
        return next((self.record[key] for key in self.keys.get(meaning, ()) if self.record.get(key) is not None), None)

    def text(self, meaning: str) -> str:
        """Returns the value as stripped text. Raises BadRecord if it is missing or empty."""
        found = self.text_or_empty(meaning)
        if not found:
            raise BadRecord(f"no {meaning}")
        return found

    def text_or_empty(self, meaning: str) -> str:
        """Returns the value as stripped text, or an empty string if it is missing. Numbers are converted to text.

        Raises BadRecord for lists, objects and booleans.
        """
        value = self.get(meaning)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadRecord(f"{meaning} is not text")
        return checked_text(str(value), meaning).strip()

    def texts(self, meaning: str) -> list[str] | None:
        """Returns the value as a list of texts, or None if it is missing. Raises BadRecord for any other type."""
        value = self.get(meaning)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise BadRecord(f"{meaning} is not a list of texts")
        return [checked_text(text, meaning) for text in value]

    def json(self, meaning: str) -> Any:
        """Returns the value, parsed as JSON if it is text. Raises BadRecord if the text is not valid JSON."""
        value = self.get(meaning)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"{meaning} is not JSON") from error


def dig(record: Record, path: str) -> Any:
    """Returns the value under a key, or under nested keys joined by dots; None if it is missing."""
    if path in record:
        return record[path]
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def checked_text(text: str, meaning: str) -> str:
    """Returns the text. Raises BadRecord if it cannot be encoded as UTF-8, because JSON can contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"{meaning} is not UTF-8") from error
    return text


def lines(text: str) -> str:
    """Returns the stripped text with Unix line endings."""
    return re.sub(r"\r\n?", "\n", text).strip()
