"""Every source as streams of raw records: one stream a name and quality that its documents will have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, assert_never

from thinkling.data.readers import RawRecord, read_jsonl, read_parquet, read_text_files
from thinkling.data.truth import Matter, Truth
from thinkling.errors import UserError
from thinkling.puzzles.page_rules import PageTruth
from thinkling.stages.curate import stdlib
from thinkling.stages.curate.pages import Page, pages
from thinkling.stages.sources import FilesSource, PagesSource, Source, StdlibSource, TasksSource

Quality = Literal["hq", "mq"]
DAMAGED_SUFFIX = "-corrupted"


@dataclass(frozen=True)
class Stream:
    """Records that become documents of one source; progress counts the pieces that they come in."""

    name: str
    """The recipe's name of the source."""
    source: str
    """The source of its documents: the same, but another one for damaged pages."""
    quality: Quality
    pieces: Iterable[Iterable[RawRecord]]
    n_pieces: int
    unit: str
    text_field: str = "text"
    markup: bool = False
    matter: Matter = "unknown"
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """Id of a record → what the source knows about it: for annotators, never for features."""


def open_streams(name: str, sources: Mapping[str, Source], quality: Quality, seed: int) -> list[Stream]:
    """The streams of one source of the recipe.

    Damaged puzzle pages are a stream of their own, ``<name>-corrupted``, always ``mq``. Raises UserError for a source
    that holds no text, and where `FilesSource.files`, `stdlib.files` or `pages` do.
    """
    source = sources[name]
    match source:
        case StdlibSource():
            return [_stdlib_stream(name, source, quality)]
        case FilesSource():
            return [_files_stream(name, source, quality)]
        case PagesSource():
            return _page_streams(name, source, sources, quality, seed)
        case _:
            raise UserError(f"sources.{name}: type {source.type} holds no text that curate could read")


def tasks_of(name: str, sources: Mapping[str, Source]) -> TasksSource:
    """A source of type ``tasks``. Raises UserError where it is of another type."""
    source = sources[name]
    if not isinstance(source, TasksSource):
        raise UserError(f"sources.{name}: its type is {source.type}, but problems come from a source of type tasks")
    return source


def _stdlib_stream(name: str, source: StdlibSource, quality: Quality) -> Stream:
    root = stdlib.root()
    files = stdlib.files(source.part, root)

    def read(file: str) -> Iterator[RawRecord]:
        for text in stdlib.texts(source.part, root, file):
            origin = f"{name}/{text.key}"
            if text.problem:
                yield RawRecord({}, origin, text.problem, text.text)
            else:
                yield RawRecord({"id": text.key, "text": text.text}, origin)

    matter: Matter = "code" if source.part == "code" else "prose"
    return Stream(name, name, quality, map(read, files), len(files), "files", matter=matter)


def _files_stream(name: str, source: FilesSource, quality: Quality) -> Stream:
    paths = source.files()
    pieces = map(_reader(source.type), paths)
    return Stream(name, name, quality, pieces, len(paths), "files", text_field=source.text_field)


def _reader(kind: Literal["text", "jsonl", "parquet"]) -> Callable[[Path], Iterator[RawRecord]]:
    match kind:
        case "text":
            return lambda path: read_text_files([path])
        case "jsonl":
            return read_jsonl
        case "parquet":
            return read_parquet
        case _:
            assert_never(kind)


def _page_streams(
    name: str, source: PagesSource, sources: Mapping[str, Source], quality: Quality, seed: int
) -> list[Stream]:
    written = list(pages(name, source, tasks_of(source.tasks, sources), seed))
    sound = [page for page in written if not page.damaged]
    damaged = [page for page in written if page.damaged]
    streams = []
    if sound:
        streams.append(_page_stream(name, name, quality, sound))
    if damaged:
        streams.append(_page_stream(name, name + DAMAGED_SUFFIX, "mq", damaged))
    return streams


def _page_stream(name: str, source: str, quality: Quality, written: list[Page]) -> Stream:
    records = ([RawRecord({"id": page.key, "text": page.text}, f"{source}/{page.key}")] for page in written)
    truths = {page.key: PageTruth(page.problem) for page in written}
    return Stream(name, source, quality, records, len(written), "pages", markup=True, truths=truths)
