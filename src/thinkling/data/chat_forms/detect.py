"""Detects a file's format from its first records; provides the reader of each format."""

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
"""The fields that identify a format. A record with the fields of several formats has the first of them."""


def form_of(record: Mapping[str, Any]) -> Form | None:
    """The format that a record's fields indicate."""
    return next((form for form in MARKS if has_marks(record, form)), None)


def detect(records: Sequence[Mapping[str, Any]]) -> Form | None:
    """The format of most of the records, the earlier one if two are equally common; None if no record has any."""
    found: Counter[Form] = Counter(form for record in records if (form := form_of(record)) is not None)
    return found.most_common(1)[0][0] if found else None


def keys_seen(records: Iterable[Mapping[str, Any]], most: int = 12) -> str:
    """The fields of the records, for users who need to map them."""
    seen = list(dict.fromkeys(str(key)[:40] for record in records for key in record))
    return ", ".join(seen[:most]) + (", …" if len(seen) > most else "") if seen else "no fields"


def has_marks(record: Mapping[str, Any], form: Form) -> bool:
    """Whether a record has the fields of a format; the prompt of a pair may be in those of another."""
    return all(record.get(mark) is not None for mark in MARKS[form])


def turns_of(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The turns of the records that hold them as a list."""
    lists = [record.get(name) for record in records for name in ("messages", "conversations")]
    return [turn for turns in lists if isinstance(turns, list) for turn in turns if isinstance(turn, Mapping)]


def known(form: Form | Literal["auto"]) -> str:
    """The fields of a format, or of all formats."""
    shown = MARKS if form == "auto" else {form: MARKS[form]}
    return ", ".join(f"{name}: {' and '.join(marks)}" for name, marks in shown.items())
