"""Detection of the kind of data in a user's file or folder (chats, preference pairs, problems or text) from its first
records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from thinkling.data.chat_forms import detect
from thinkling.errors import UserError
from thinkling.sources.conversations import ConversationsSource
from thinkling.sources.presets import PRESETS, preset
from thinkling.sources.presets.base import BadRecord, Found

Kind = Literal["conversations", "pairs", "problems", "text"]
SAMPLE = 20
_TEXT = (".txt", ".md")
_ORDER = ("gsm8k", "mbpp", "humaneval", "livecodebench", "apps", "gpqa", "mmlu_pro", "math", "choice", "aime")
"""Built-in presets, from the most to the least specific. Presets of installed packages are tried before these."""
_QUESTION = ("question", "problem", "query", "prompt", "input", "instruction", "q")
_ANSWER = ("answer", "final_answer", "expected_answer", "target", "label", "output", "response", "solution", "a")
_TEXT_FIELDS = ("text", "content", "document", "body", "raw_content")


@dataclass(frozen=True)
class Data:
    """One `--data` argument and the data found in it."""

    path: str
    kind: Kind
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields that the source needs in the recipe. For text, they include its type."""
    form: str = ""
    """Description of the records' format, for the user."""


def look(entry: str, wanted: Sequence[Kind]) -> Data:
    """Detect the kind of data in a file or folder.

    `wanted`: the acceptable kinds, in order of preference. Raises UserError if the path does not exist or if it
    contains data of none of these kinds.
    """
    path = Path(entry).expanduser()
    if not path.exists():
        raise UserError(f"--data {entry}: no such file or folder; correct the path")
    if "text" in wanted:
        return _text(entry, path)
    sample = _records(entry)
    if not sample:
        raise UserError(f"--data {entry}: no records could be read; provide a .jsonl, .json or .parquet file")
    found = {data.kind: data for data in _kinds(entry, sample)}
    for kind in wanted:
        if kind in found:
            return found[kind]
    there = ", ".join(f"{data.kind} ({data.form})" for data in found.values()) or "records of an unknown format"
    raise UserError(
        f"--data {entry}: it contains {there}, not {' or '.join(wanted)}; the records have the fields "
        f"{detect.keys_seen(sample)}; see docs/conversations.md and docs/problems.md for how to map fields"
    )


def _kinds(entry: str, sample: Sequence[Mapping[str, Any]]) -> Iterator[Data]:
    form = detect.detect(sample)
    if form == "preference":
        yield Data(entry, "pairs", {}, "chosen and rejected")
    elif form is not None:
        yield Data(entry, "conversations", {}, form)
    name = _preset(sample)
    if name is not None:
        yield Data(entry, "problems", {"preset": name}, f"preset {name}")
    elif (fields := _mapping(sample)) is not None and form is None:
        yield Data(
            entry, "problems", {"fields": fields, "verifier": "maths"}, f"{fields['question']}, {fields['answer']}"
        )


def _records(entry: str) -> list[Mapping[str, Any]]:
    """Return the first `SAMPLE` records that can be read."""
    source = ConversationsSource(type="conversations", path=entry).bind("data", {})
    files = source.files()
    return [record.fields for record in islice((r for r in source.read(files) if not r.error), SAMPLE)]


def _preset(sample: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of the first preset that can convert more than half of the records."""
    added = [name for name in PRESETS.names() if name not in _ORDER]
    for name in (*added, *_ORDER):
        if sum(_reads(name, record) for record in sample) * 2 > len(sample):
            return name
    return None


def _reads(name: str, record: Mapping[str, Any]) -> bool:
    one = preset(name)
    try:
        return bool(one.read(Found(record, one.keys), 0).answer or one.verifier == "program")
    except BadRecord:
        return False


def _mapping(sample: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Find the question and answer fields by their usual names; None if either is missing."""
    question = next((name for name in _QUESTION if all(isinstance(r.get(name), str) for r in sample)), None)
    answers = (name for name in _ANSWER if all(isinstance(r.get(name), str | int | float) for r in sample))
    answer = next(answers, None)
    return None if question is None or answer is None else {"question": question, "answer": answer}


def _text(entry: str, path: Path) -> Data:
    """Describe the text files at `path`. In a folder, only files of the most frequent type are used."""
    from thinkling.data.readers import read_jsonl, read_parquet

    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    types = {"text": _TEXT, "jsonl": (".jsonl", ".ndjson", ".jsonl.gz"), "parquet": (".parquet",)}
    counts = {name: [f for f in files if f.name.endswith(ends)] for name, ends in types.items()}
    best = max(counts, key=lambda name: len(counts[name]))
    if not counts[best]:
        raise UserError(f"--data {entry}: it contains no text files; provide .txt, .md, .jsonl or .parquet files")
    ending = next(end for end in types[best] if counts[best][0].name.endswith(end))
    pattern = f"{entry.rstrip('/')}/**/*{ending}" if path.is_dir() else entry
    if best == "text":
        return Data(pattern, "text", {"type": "text"}, f"{ending} files, one document each")
    read = read_jsonl if best == "jsonl" else read_parquet
    sample = [record.fields for record in islice((r for r in read(counts[best][0]) if not r.error), SAMPLE)]
    name = next((n for n in _TEXT_FIELDS if sample and all(isinstance(r.get(n), str) for r in sample)), None)
    if name is None:
        seen = detect.keys_seen(sample)
        raise UserError(
            f"--data {entry}: {counts[best][0]} has no known text field; its fields are {seen}; rename the field with "
            "the text to `text`"
        )
    return Data(pattern, "text", {"type": best, "text_field": name}, f"{best}, field {name}")
