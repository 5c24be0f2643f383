"""curate: sources → documents.

Every record of every source goes through the same steps, one at a time: admission, exact deduplication over all
sources, decontamination against the held-out problems. What is kept has the quality of its source.
``documents.parquet`` holds what was kept, ``rejected.parquet`` what was not and why, ``provenance.json`` which standard
library was read, if one was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from thinkling.data.artifact import write_json
from thinkling.data.decontaminate import HeldOut, decontaminated
from thinkling.data.dedup import unique
from thinkling.data.documents import Counts, Document, DocumentWriter, admit
from thinkling.data.readers import RawRecord
from thinkling.errors import UserError
from thinkling.stages.base import StageContext
from thinkling.stages.curate import stdlib
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.curate.ledger import Ledger
from thinkling.stages.curate.streams import Stream, open_streams, tasks_of
from thinkling.stages.sources import StdlibSource

DOCUMENTS, REJECTED, PROVENANCE = "documents.parquet", "rejected.parquet", "provenance.json"


def run(config: CurateConfig, ctx: StageContext) -> None:
    """Writes the documents artifact. A run that was cut off starts over: the stage is short.

    Raises UserError for a source that cannot be read, or that has records but no document among them.
    """
    _clear(ctx.directory)
    streams = [s for name in config.sources for s in open_streams(name, ctx.sources, config.quality[name], ctx.seed)]
    _check_names(streams)
    questions = [p.question for name in config.heldout for p in tasks_of(name, ctx.sources).heldout()]
    held_out = HeldOut(questions, config.ngram)
    deduplication, decontamination = Counts("dedup"), Counts("decontaminate")
    with (
        Ledger(ctx.directory / REJECTED, max_characters=sys.maxsize) as ledger,
        DocumentWriter(ctx.directory / DOCUMENTS) as writer,
    ):
        admitted = chain.from_iterable(_admitted(stream, config, ctx, ledger) for stream in streams)
        distinct = unique(_identified(admitted), deduplication, ledger)
        for document in decontaminated(distinct, held_out, decontamination, ledger):
            ledger.keep(document)
            writer.write(document)
    for step in (deduplication, decontamination):
        step.check()
    _write_provenance(config, ctx)
    ctx.counts.update(ledger.counts(), heldout_problems=len(questions))


def _admitted(stream: Stream, config: CurateConfig, ctx: StageContext, ledger: Ledger) -> Iterator[Document]:
    """The documents of a stream, before they are compared with others."""
    counts = Counts(f"admit {stream.source}")
    with ctx.progress.track(stream.source, stream.n_pieces, stream.unit) as task:

        def records() -> Iterator[RawRecord]:
            for piece in stream.pieces:
                for record in piece:
                    ledger.received[stream.source] += 1
                    yield record
                task.advance(documents=counts.kept)

        yield from admit(
            records(),
            source=stream.source,
            quality=stream.quality,
            counts=counts,
            rejected=ledger,
            markup=stream.markup,
            text_field=stream.text_field,
            min_characters=config.min_characters,
            max_characters=config.max_characters,
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


def _check_names(streams: list[Stream]) -> None:
    seen: set[str] = set()
    for stream in streams:
        if stream.source in seen:
            raise UserError(f"sources.{stream.source}: damaged puzzle pages bear this name already; rename the source")
        seen.add(stream.source)


def _write_provenance(config: CurateConfig, ctx: StageContext) -> None:
    sources = [ctx.sources[name] for name in config.sources]
    parts: list[stdlib.Part] = [source.part for source in sources if isinstance(source, StdlibSource)]
    if parts:
        write_json(ctx.directory / PROVENANCE, stdlib.provenance(stdlib.root(), parts))


def _clear(directory: Path) -> None:
    """Removes what a run that was cut off left behind."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
