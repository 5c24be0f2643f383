"""Writes graded documents: documents.parquet with a column per grade, and beside it what the grades came from.

``grading.json`` is the report (agreement of the labeller by tag and kind of damage, weights, importance, recall of the
search, the split), ``labeller/`` the labeller itself, ``annotated.parquet`` the examples that it learned from (absent
where the labeller is an earlier run's).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from thinkling.data.artifact import write_json
from thinkling.data.atomic import replacing
from thinkling.data.documents import QUALITIES, SCHEMA, Document, write_documents
from thinkling.generate.unreadable import say
from thinkling.quality.config import GradingConfig
from thinkling.quality.grade_pool import Graded, grade_pool
from thinkling.quality.pool import Origin, Pool
from thinkling.quality.tags import NAMES
from thinkling.quality.value import SIMILARITY
from thinkling.sources.base import DocumentStream
from thinkling.stages.base import StageContext
from thinkling.stages.curate.ledger import Ledger

if TYPE_CHECKING:
    from thinkling.generate.client import ServedModel
    from thinkling.quality.served_annotator import ServedAnnotator

GRADED_SCHEMA = pa.schema(
    [
        *SCHEMA,
        *(pa.field(name, pa.int8(), nullable=False) for name in NAMES),
        pa.field(SIMILARITY, pa.float32(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("value_terms", pa.string(), nullable=False),
    ]
)
"""`SCHEMA`, the 20 grades, similarity to the seeds, the quality value, and the largest terms of that value."""
ANNOTATED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("damage", pa.string(), nullable=False),
        pa.field("damaged_fraction", pa.float32(), nullable=False),
        *(pa.field(name, pa.int8()) for name in NAMES),
    ]
)


def write(
    documents: Iterable[Document],
    target: Path,
    pool_path: Path,
    streams: Sequence[DocumentStream],
    config: GradingConfig,
    ctx: StageContext,
    ledger: Ledger,
) -> None:
    """Grades the documents and writes those that are kept; the others go to the ledger with their reason.

    `target`: the documents file; `pool_path`: a file of all documents, which is read several times. Labeller,
    examples and report go into the stage's directory.
    """
    write_documents(pool_path, documents)
    pool = Pool.survey(pool_path, {s.source: Origin(s.name, s.matter, s.truths) for s in streams})
    served = _served_annotator(config, ctx)
    annotator = None if served is None else served.annotator
    graded, learned, report = grade_pool(pool, config, annotator, pool_path.parent / "lance", ctx.seed, ctx.progress)
    if served is not None:
        served.report(ctx)
    learned.labeller.save(ctx.directory / "labeller")
    write_json(ctx.directory / "grading.json", report)
    if config.labeller is None:
        with replacing(ctx.directory / "annotated.parquet") as temporary:
            table = pa.Table.from_pylist(learned.examples.audit(pool), schema=ANNOTATED_SCHEMA)
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    write_documents(target, _kept(pool, graded, ledger), schema=GRADED_SCHEMA)
    ctx.counts["split"] = report["split"]


def _kept(pool: Pool, graded: Graded, ledger: Ledger) -> Iterator[Document]:
    """The kept documents with their grades, each under the recipe's name of its source: how good it is, its grades
    say."""
    row = 0
    for batch in pool.batches():
        for document in batch:
            label = graded.labels[row]
            if label in QUALITIES:
                ledger.keep(document)
                yield document | _columns(pool, graded, row)
            else:
                ledger.write(document, label, graded.explain(row))
            row += 1


def _columns(pool: Pool, graded: Graded, row: int) -> Document:
    return {
        "quality": graded.labels[row],
        "source": pool.origins[pool.sources[row]].name,
        **dict(zip(NAMES, graded.grades_NT[row].tolist(), strict=True)),
        SIMILARITY: float(graded.similarity_N[row]),
        "value": float(graded.values_N[row]),
        "value_terms": graded.explain(row),
    }


class _Served(NamedTuple):
    model: ServedModel
    annotator: ServedAnnotator

    def report(self, ctx: StageContext) -> None:
        """What was asked and could not be read: into the terminal, the counts and unreadable.jsonl."""
        counts = self.annotator.readings.counts()
        if not counts:
            return
        from thinkling.generate.client import report_spending

        self.annotator.readings.write(ctx.directory)
        say(counts, f"stages.{ctx.name}.grading", ctx.progress)
        ctx.counts["replies"] = counts
        ctx.counts["served"] = report_spending({"grading.annotator": self.model.spending}, ctx.name, ctx.progress)


def _served_annotator(config: GradingConfig, ctx: StageContext) -> _Served | None:
    """The served model that the recipe names, None for the rules."""
    if config.annotator == "rules":
        return None
    # They load torch, which curate has no other use for.
    from thinkling.generate.client import ServedModel
    from thinkling.quality.served_annotator import ServedAnnotator

    where = f"stages.{ctx.name}.grading.annotator"
    model = ServedModel(config.annotator, where, ctx.answers, ctx.progress)
    return _Served(model, ServedAnnotator(model))
