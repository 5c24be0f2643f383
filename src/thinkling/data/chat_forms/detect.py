"""Detects a file's format from its first records, and provides the reader of each format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from thinkling.data.chat_forms import alpaca, messages, preference, prompt_completion, sharegpt
from thinkling.data.chat_forms.normal import Read

Form = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "preference"]

READERS: dict[Form, Callable[[Mapping[str, Any], bool], Read]] = {
    "preference": preference.read,
    "messages": messages.read,
    "sharegpt": sharegpt.read,
    "prompt_completion": prompt_completion.read,
    "alpaca": alpaca.read,
}
MARKS: dict[Form, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
}
"""The fields that identify each format. If a record has the fields of several formats, the first of these formats
applies."""


def form_of(record: Mapping[str, Any]) -> Form | None:
    """Returns the format that a record's fields indicate, or None."""
    return next((form for form in MARKS if has_marks(record, form)), None)


def detect(records: Sequence[Mapping[str, Any]]) -> Form | None:
    """Returns the most common format of the records, or None if no record has a known format.

    If two formats are equally common, the format that occurs first is returned.
    """
    found: Counter[Form] = Counter(form for record in records if (form := form_of(record)) is not None)
    return found.most_common(1)[0][0] if found else None


def keys_seen(records: Iterable[Mapping[str, Any]], most: int = 12) -> str:
    """Returns a list of the records' fields, for error messages to users who need to map them."""
    seen = list(dict.fromkeys(str(key)[:40] for record in records for key in record))
    return ", ".join(seen[:most]) + (", …" if len(seen) > most else "") if seen else "no fields"


def has_marks(record: Mapping[str, Any], form: Form) -> bool:
    """Returns whether a record has the fields that identify a format."""
    return all(record.get(mark) is not None for mark in MARKS[form])


def turns_of(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the turns of all records whose messages are a list."""
    lists = [record.get(name) for record in records for name in ("messages", "conversations")]
    return [turn for turns in lists if isinstance(turns, list) for turn in turns if isinstance(turn, Mapping)]


def known(form: Form | Literal["auto"]) -> str:
    """Returns a description of the identifying fields of a format, or of all formats for `auto`."""
    shown = MARKS if form == "auto" else {form: MARKS[form]}
    return ", ".join(f"{name}: {' and '.join(marks)}" for name, marks in shown.items())
