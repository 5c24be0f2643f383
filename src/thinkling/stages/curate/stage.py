"""curate: sources → documents.

Every record of every source goes through the same steps: admission, exact deduplication over all sources, near
deduplication where the recipe asks for it, decontamination against the held-out problems. What is kept has the quality
of its source, or is graded and split by its own (`write_graded`). ``documents.parquet`` holds what was kept,
``rejected.parquet`` what was not and why, ``provenance.json`` which standard library was read, if one was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from thinkling.data.artifact import write_json
from thinkling.data.decontaminate import HeldOut, decontaminated
from thinkling.data.dedup import unique
from thinkling.data.documents import Counts, Document, DocumentWriter, admit, read_documents
from thinkling.data.near_dedup import NearDuplicates, clusters, near_unique
from thinkling.data.readers import RawRecord
from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream
from thinkling.stages.base import StageContext
from thinkling.stages.curate import write_graded
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.curate.ledger import Ledger

DOCUMENTS, REJECTED, PROVENANCE = "documents.parquet", "rejected.parquet", "provenance.json"
WORK = "work"
"""Directory of what is set down on the way; removed before the stage ends."""


def run(config: CurateConfig, ctx: StageContext) -> None:
    """Writes the documents artifact. A run that was cut off starts over, but asks a served annotator nothing twice.

    Raises UserError for a source that cannot be read, or that has records but no document among them, and where an
    extra is not installed that the recipe needs.
    """
    _clear(ctx.directory)
    streams = [s for name in config.sources for s in _open(name, config, ctx)]
    _check_names(streams)
    questions = [p.bare or p.question for name in config.heldout for p in ctx.sources[name].problems("heldout")]
    steps = [Counts("dedup"), Counts("near dedup"), Counts("decontaminate")]
    with Ledger(ctx.directory / REJECTED, max_characters=sys.maxsize) as ledger:
        admitted = chain.from_iterable(_admitted(stream, config, ctx, ledger) for stream in streams)
        documents = unique(_identified(admitted), steps[0], ledger)
        if config.near_dedup is not None:
            settings = NearDuplicates(**config.near_dedup.model_dump())
            documents = _near_unique(documents, settings, ctx, steps[1], ledger)
        documents = decontaminated(documents, HeldOut(questions, config.ngram), steps[2], ledger)
        if config.grading is None:
            with DocumentWriter(ctx.directory / DOCUMENTS) as writer:
                for document in documents:
                    ledger.keep(document)
                    writer.write(document)
        else:
            pool = ctx.directory / WORK / "pool.parquet"
            write_graded.write(documents, ctx.directory / DOCUMENTS, pool, streams, config.grading, ctx, ledger)
    for step in steps:
        step.check()
    for name in (WORK, write_graded.ANSWERS):
        _remove(ctx.directory / name)
    _write_provenance(config, ctx)
    ctx.counts.update(ledger.counts(), heldout_problems=len(questions))


def _open(name: str, config: CurateConfig, ctx: StageContext) -> list[DocumentStream]:
    """The streams of a source. With grading the quality is settled later, and `mq` until then."""
    return ctx.sources[name].documents("mq" if config.grading else config.quality[name], ctx.seed)


def _near_unique(
    documents: Iterator[Document], settings: NearDuplicates, ctx: StageContext, counts: Counts, ledger: Ledger
) -> Iterator[Document]:
    """Sets the documents down to compare them all, then passes on the first of each cluster."""
    path, ids = ctx.directory / WORK / "distinct.parquet", []
    with DocumentWriter(path) as writer:

        def texts() -> Iterator[str]:
            for document in documents:
                writer.write(document)
                ids.append(document["id"])
                yield document["text"]

        first = clusters(texts(), settings)
    with ctx.progress.track(f"{ctx.name}: near dedup", len(ids), "documents") as task:
        for document in near_unique(read_documents(path), first, ids, counts, ledger):
            task.advance()
            yield document


def _admitted(stream: DocumentStream, config: CurateConfig, ctx: StageContext, ledger: Ledger) -> Iterator[Document]:
    """The documents of a stream, before they are compared with others."""
    counts = Counts(f"admit {stream.source}")
    with ctx.progress.track(f"{ctx.name}: {stream.source}", None, "documents") as task:

        def records() -> Iterator[RawRecord]:
            for number, piece in enumerate(stream.pieces, 1):
                of: dict[str, object] = {stream.unit: f"{number}/{stream.n_pieces}"}
                for record in piece:
                    ledger.received[stream.source] += 1
                    task.advance(1, **of)
                    yield record

        yield from admit(
            records(),
            source=stream.source,
            quality=stream.quality,
            counts=counts,
            rejected=ledger,
            markup=stream.markup,
            text_field=stream.text_field,
            length=(config.min_characters, config.max_characters),
        )
    counts.check()
    if counts.kept == 0:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.rejected.items())) or "it has no records"
        raise UserError(f"sources.{stream.source}: no document in {counts.received} records ({reasons}); mend it")


def _identified(documents: Iterator[Document]) -> Iterator[Document]:
    """Ids as ``<source>/<own id>``, and a number added where the user's files give one twice."""
    seen: dict[str, int] = {}
    for document in documents:
        identity = f"{document['source']}/{document['id']}"
        seen[identity] = seen.get(identity, 0) + 1
        yield document | {"id": identity if seen[identity] == 1 else f"{identity}#{seen[identity]}"}


def _check_names(streams: list[DocumentStream]) -> None:
    seen: set[str] = set()
    for stream in streams:
        if stream.source in seen:
            raise UserError(f"sources.{stream.source}: another source writes documents under this name; rename it")
        seen.add(stream.source)


def _write_provenance(config: CurateConfig, ctx: StageContext) -> None:
    """What the sources say of where their documents come from, the files of all together."""
    merged: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name in config.sources:
        found = ctx.sources[name].provenance()
        files |= found.get("files", {})
        merged |= found
    if merged:
        write_json(ctx.directory / PROVENANCE, merged | {"files": dict(sorted(files.items()))})


def _clear(directory: Path) -> None:
    """Removes what a run that was cut off left behind, the answers of a served annotator excepted."""
    for path in directory.iterdir():
        if path.name != write_graded.ANSWERS:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
