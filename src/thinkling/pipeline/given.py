"""What a user's file or folder holds, told from its first records: chats, preference pairs, problems or text."""

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
"""Presets from the most to the least particular; those of packages come first."""
_QUESTION = ("question", "problem", "query", "prompt", "input", "instruction", "q")
_ANSWER = ("answer", "final_answer", "expected_answer", "target", "label", "output", "response", "solution", "a")
_TEXT_FIELDS = ("text", "content", "document", "body", "raw_content")


@dataclass(frozen=True)
class Data:
    """An entry of --data."""

    path: str
    kind: Kind
    fields: dict[str, Any] = field(default_factory=dict)
    """What the source has to say besides its type and paths."""
    form: str = ""
    """The form, in words."""


def look(entry: str, wanted: Sequence[Kind]) -> Data:
    """Tells what a file or folder holds. `wanted`: the kinds that would do, those first that are to be preferred.

    Raises UserError if it is not there, or is none of them.
    """
    path = Path(entry).expanduser()
    if not path.exists():
        raise UserError(f"--data {entry}: no such file or folder")
    if "text" in wanted:
        return _text(entry, path)
    sample = _records(entry)
    if not sample:
        raise UserError(f"--data {entry}: no record can be read in it; give .jsonl, .json or .parquet")
    found = {data.kind: data for data in _kinds(entry, sample)}
    for kind in wanted:
        if kind in found:
            return found[kind]
    there = ", ".join(f"{data.kind} ({data.form})" for data in found.values()) or "nothing that is known"
    raise UserError(
        f"--data {entry}: it holds {there}, not {' or '.join(wanted)}; its records have {detect.keys_seen(sample)}; "
        "docs/conversations.md and docs/problems.md say how to map fields"
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
    """The first records of the first file."""
    source = ConversationsSource(type="conversations", path=entry).bind("data", {})
    files = source.files()
    return [record.fields for record in islice((r for r in source.read(files) if not r.error), SAMPLE)]


def _preset(sample: Sequence[Mapping[str, Any]]) -> str | None:
    """The first preset that reads most of the records."""
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
    """Usual names of a question and its answer."""
    question = next((name for name in _QUESTION if all(isinstance(r.get(name), str) for r in sample)), None)
    answers = (name for name in _ANSWER if all(isinstance(r.get(name), str | int | float) for r in sample))
    answer = next(answers, None)
    return None if question is None or answer is None else {"question": question, "answer": answer}


def _text(entry: str, path: Path) -> Data:
    """Files of one kind: the most frequent one of a folder."""
    from thinkling.data.readers import read_jsonl, read_parquet

    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    types = {"text": _TEXT, "jsonl": (".jsonl", ".ndjson", ".jsonl.gz"), "parquet": (".parquet",)}
    counts = {name: [f for f in files if f.name.endswith(ends)] for name, ends in types.items()}
    best = max(counts, key=lambda name: len(counts[name]))
    if not counts[best]:
        raise UserError(f"--data {entry}: no text in it; give files of .txt, .md, .jsonl or .parquet")
    ending = next(end for end in types[best] if counts[best][0].name.endswith(end))
    pattern = f"{entry.rstrip('/')}/**/*{ending}" if path.is_dir() else entry
    if best == "text":
        return Data(pattern, "text", {"type": "text"}, f"{ending} files, each a document")
    read = read_jsonl if best == "jsonl" else read_parquet
    sample = [record.fields for record in islice((r for r in read(counts[best][0]) if not r.error), SAMPLE)]
    name = next((n for n in _TEXT_FIELDS if sample and all(isinstance(r.get(n), str) for r in sample)), None)
    if name is None:
        raise UserError(f"--data {entry}: no field of text in {counts[best][0]}; it has {detect.keys_seen(sample)}")
    return Data(pattern, "text", {"type": best, "text_field": name}, f"{best}, field {name}")
