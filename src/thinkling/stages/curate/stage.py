"""The curate stage: sources → documents.

All records pass through the same steps: admission, exact deduplication across sources, near deduplication if enabled,
and decontamination against held-out problems. Each kept document has the quality of its source or, if `grading` is set,
is graded and split individually (see `write_graded`). ``documents.parquet`` contains the kept documents, and
``rejected.parquet`` contains all other documents, each with the reason for its rejection. If a source reads Python's
standard library, ``provenance.json`` contains the library's version.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from thinkling.data.artifact import write_json
from thinkling.data.decontaminate import HeldOut, decontaminated
from thinkling.data.dedup import unique
from thinkling.data.documents import Counts, Document, DocumentWriter, admit, read_documents
from thinkling.data.ledger import FILE
from thinkling.data.near_dedup import NearDuplicates, clusters, near_unique
from thinkling.data.readers import RawRecord
from thinkling.errors import UserError
from thinkling.progress import tracked
from thinkling.quality.config import GradingConfig
from thinkling.sources.base import DocumentStream
from thinkling.stages.base import StageContext
from thinkling.stages.curate import parts, write_graded
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.curate.ledger import Ledger
from thinkling.stages.curate.parts import WORK

DOCUMENTS, REJECTED, PROVENANCE = "documents.parquet", "rejected.parquet", "provenance.json"


def run(config: CurateConfig, ctx: StageContext) -> None:
    """Writes the documents artifact. If `grading` is set, the intermediate results of an earlier or killed run are
    reused (see `parts`).

    Raises UserError if a source cannot be read or yields no document, or if a required extra is not installed.
    """
    _clear(ctx.directory)
    if config.grading is not None:
        _graded(config, config.grading, ctx)
    else:
        with Ledger(ctx.directory / REJECTED, max_characters=sys.maxsize) as ledger:
            n_questions = _write_distinct(config, ctx, ctx.directory / DOCUMENTS, ledger, ledger.keep)
        _write_provenance(config, ctx, ctx.directory)
        ctx.counts.update(ledger.counts(), heldout_problems=n_questions)
    _remove(ctx.directory / WORK)


def _graded(config: CurateConfig, grading: GradingConfig, ctx: StageContext) -> None:
    streams: list[DocumentStream] = []

    def make_pool(directory: Path) -> None:
        with Ledger(directory / REJECTED, max_characters=sys.maxsize) as ledger:
            n_questions = _write_distinct(config, ctx, directory / write_graded.POOL, ledger, streams=streams)
        _write_provenance(config, ctx, directory)
        if (ctx.directory / FILE).exists():
            shutil.copyfile(ctx.directory / FILE, directory / FILE)
        origins = {s.source: [s.name, s.matter] for s in streams}
        kept = {"origins": origins, "heldout_problems": n_questions, "sources": ctx.ledger.counts()}
        write_json(directory / write_graded.COUNTS, ledger.state() | kept)

    pool, reused = parts.part(ctx, "pool", parts.pool_key(config, ctx.resolved), make_pool)
    counts = json.loads((pool / write_graded.COUNTS).read_text(encoding="utf-8"))
    if reused:
        ctx.progress.note(f"stages.{ctx.name}: reusing the documents of {pool.name}")
        ctx.ledger.restore(counts["sources"])
        if (pool / FILE).exists():
            shutil.copyfile(pool / FILE, ctx.directory / FILE)

    def opened() -> list[DocumentStream]:
        return streams or _streams(config, ctx)

    with Ledger(ctx.directory / REJECTED, max_characters=sys.maxsize) as ledger:
        ledger.restore(pool / REJECTED, counts)
        write_graded.write(pool, ctx.directory / DOCUMENTS, opened, config, ctx, ledger)
    if (pool / PROVENANCE).exists():
        shutil.copyfile(pool / PROVENANCE, ctx.directory / PROVENANCE)
    ctx.counts.update(ledger.counts(), heldout_problems=counts["heldout_problems"])


def _write_distinct(
    config: CurateConfig,
    ctx: StageContext,
    target: Path,
    ledger: Ledger,
    keep: Callable[[Document], None] = lambda document: None,
    streams: list[DocumentStream] | None = None,
) -> int:
    """Writes the documents that are admitted, unique and not contaminated, and returns the number of held-out problems.
    Opened streams are appended to `streams` if it is given."""
    found = _streams(config, ctx)
    if streams is not None:
        streams += found
    questions = [p.bare or p.question for name in config.heldout for p in ctx.sources[name].problems("heldout")]
    steps = [Counts("dedup"), Counts("near dedup"), Counts("decontaminate")]
    admitted = chain.from_iterable(_admitted(stream, config, ctx, ledger) for stream in found)
    documents = unique(_identified(admitted), steps[0], ledger)
    if config.near_dedup is not None:
        settings = NearDuplicates(**config.near_dedup.model_dump())
        documents = _near_unique(documents, settings, ctx, steps[1], ledger)
    documents = decontaminated(documents, HeldOut(questions, config.ngram), steps[2], ledger)
    with DocumentWriter(target) as writer:
        for document in documents:
            keep(document)
            writer.write(document)
    for step in steps:
        step.check()
    return len(questions)


def _streams(config: CurateConfig, ctx: StageContext) -> list[DocumentStream]:
    streams = [s for name in config.sources for s in _open(name, config, ctx)]
    _check_names(streams)
    return streams


def _open(name: str, config: CurateConfig, ctx: StageContext) -> list[DocumentStream]:
    """Opens the streams of a source. If `grading` is set, all documents are `mq` until the split assigns their
    quality."""
    return ctx.sources[name].documents("mq" if config.grading else config.quality[name], ctx.seed)


def _near_unique(
    documents: Iterator[Document], settings: NearDuplicates, ctx: StageContext, counts: Counts, ledger: Ledger
) -> Iterator[Document]:
    """Spools the documents to disk, compares all of them, then yields the first document of each cluster of near
    duplicates."""
    path, ids = ctx.directory / WORK / "distinct.parquet", []
    with DocumentWriter(path) as writer:

        def texts() -> Iterator[str]:
            for document in documents:
                writer.write(document)
                ids.append(document["id"])
                yield document["text"]

        first = clusters(texts(), settings, ctx.progress, f"{ctx.name}: near dedup")
    distinct = tracked(read_documents(path), ctx.progress, f"{ctx.name}: near dedup, writing", len(ids), "documents")
    yield from near_unique(distinct, first, ids, counts, ledger)


def _admitted(stream: DocumentStream, config: CurateConfig, ctx: StageContext, ledger: Ledger) -> Iterator[Document]:
    """Yields the admitted documents of a stream, before they are compared with other documents."""
    counts = Counts(f"admit {stream.source}")
    with ctx.progress.track(f"{ctx.name}: {stream.source}", stream.n_records, "documents") as task:

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
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.rejected.items())) or "no records"
        raise UserError(
            f"sources.{stream.source}: no usable document in {counts.received} records ({reasons}); correct the files "
            "or fields"
        )


def _identified(documents: Iterator[Document]) -> Iterator[Document]:
    """Sets each id to ``<source>/<id in the source>``, and appends a number if the user's files repeat an id."""
    seen: dict[str, int] = {}
    for document in documents:
        identity = f"{document['source']}/{document['id']}"
        seen[identity] = seen.get(identity, 0) + 1
        yield document | {"id": identity if seen[identity] == 1 else f"{identity}#{seen[identity]}"}


def _check_names(streams: list[DocumentStream]) -> None:
    seen: set[str] = set()
    for stream in streams:
        if stream.source in seen:
            raise UserError(
                f"sources.{stream.source}: another source writes documents under this name; rename one of the two"
            )
        seen.add(stream.source)


def _write_provenance(config: CurateConfig, ctx: StageContext, directory: Path) -> None:
    """Writes the provenance that the sources report, with their lists of files merged."""
    merged: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name in config.sources:
        found = ctx.sources[name].provenance()
        files |= found.get("files", {})
        merged |= found
    if merged:
        write_json(directory / PROVENANCE, merged | {"files": dict(sorted(files.items()))})


def _clear(directory: Path) -> None:
    """Removes the files that an interrupted run left."""
    for path in directory.iterdir():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
