"""Writes graded documents: documents.parquet with a column per grade, and the evidence for the grades.

``grading.json`` is the report. It contains the agreement of the labeller with the annotator by tag and by kind of
artificial damage, the weights and the importance of the terms of the quality value, the recall of the similarity
search, and the split. ``labeller/`` contains the labeller, and ``annotated.parquet`` contains its training examples.
``annotated.parquet`` is not written if the labeller comes from an earlier run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from thinkling.data.artifact import write_json
from thinkling.data.atomic import replacing
from thinkling.data.documents import QUALITIES, SCHEMA, Document, write_documents
from thinkling.data.readers import readable
from thinkling.generate.unreadable import FILE as UNREADABLE
from thinkling.generate.unreadable import say
from thinkling.progress import Task
from thinkling.quality.config import GradingConfig
from thinkling.quality.grade_pool import Graded, Measured, measure_pool, split_pool
from thinkling.quality.pool import Origin, Pool
from thinkling.quality.tags import NAMES
from thinkling.quality.value import SIMILARITY
from thinkling.sources.base import DocumentStream
from thinkling.stages.base import StageContext
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.curate.ledger import Ledger
from thinkling.stages.curate.parts import WORK, grades_key, part

if TYPE_CHECKING:
    from thinkling.quality.served_annotator import ServedAnnotator

POOL, COUNTS = "pool.parquet", "counts.json"
"""Files of the part `pool`."""
NUMBERS, MEASURED, ANNOTATED = "numbers.safetensors", "measured.json", "annotated.parquet"
"""Files of the part `grades`."""
ARRAYS = ("grades_NT", "similarity_N", "unseen_MT")
GRADED_SCHEMA = pa.schema(
    [
        *SCHEMA,
        *(pa.field(name, pa.int8(), nullable=False) for name in NAMES),
        pa.field(SIMILARITY, pa.float32(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("value_terms", pa.string(), nullable=False),
    ]
)
"""`SCHEMA`, followed by the 20 grades, the similarity to the seeds, the quality value, and the largest terms of the
quality value."""
ANNOTATED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("damage", pa.string(), nullable=False),
        pa.field("damaged_fraction", pa.float32(), nullable=False),
        *(pa.field(name, pa.int8()) for name in NAMES),
    ]
)


def write(
    pool_part: Path,
    target: Path,
    streams: Callable[[], Sequence[DocumentStream]],
    config: CurateConfig,
    ctx: StageContext,
    ledger: Ledger,
) -> None:
    """Grades the documents of the part `pool` and writes the documents that are kept. All other documents are recorded
    in the ledger with the reason for their rejection.

    `target`: path of the documents file. `streams`: opens the sources; called only if the part `grades` does not exist
    yet. The labeller, its examples and the report are written to the stage's directory.
    """
    grading = config.grading
    assert grading is not None
    path = pool_part / POOL

    def make(directory: Path) -> None:
        origins = {s.source: Origin(s.name, s.matter, s.truths) for s in streams()}
        pool = Pool.survey(path, origins, progress=ctx.progress)
        _measure(pool, grading, directory, ctx)

    grades, reused = part(ctx, "grades", grades_key(config, ctx.resolved), make)
    if reused:
        ctx.progress.note(f"stages.{ctx.name}: reusing the grades of {grades.name}")
    origins = json.loads((pool_part / COUNTS).read_text(encoding="utf-8"))["origins"]
    of_source = {source: Origin(*origin) for source, origin in origins.items()}
    pool = Pool.survey(path, of_source, words=False, progress=ctx.progress)
    measured, told = _read_measured(grades)
    graded, report = split_pool(pool, grading, measured, ctx.seed)
    write_json(ctx.directory / "grading.json", report)
    shutil.copytree(grades / "labeller", ctx.directory / "labeller")
    for name in (ANNOTATED, UNREADABLE):
        if (grades / name).exists():
            shutil.copyfile(grades / name, ctx.directory / name)
    if told["replies"]:
        say(told["replies"], f"stages.{ctx.name}.grading", ctx.progress)
        ctx.counts.update(replies=told["replies"], served=told["served"])
    with ctx.progress.track(f"{ctx.name}: split", len(pool), "documents") as task:
        write_documents(target, _kept(pool, graded, ledger, task), schema=GRADED_SCHEMA)
    ctx.counts["split"] = report["split"]


def _measure(pool: Pool, grading: GradingConfig, directory: Path, ctx: StageContext) -> None:
    """Grades the documents of the pool and writes the files of the part `grades`."""
    served = _annotator(grading, ctx)
    measured, learned = measure_pool(pool, grading, served, ctx.directory / WORK / "lance", ctx.seed, ctx.progress)
    learned.labeller.save(directory / "labeller")
    arrays = {name: np.ascontiguousarray(getattr(measured, name)) for name in ARRAYS}
    save_file(arrays, directory / NUMBERS)
    if grading.labeller is None:
        with replacing(directory / ANNOTATED) as temporary:
            table = pa.Table.from_pylist(learned.examples.audit(pool), schema=ANNOTATED_SCHEMA)
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    told: dict[str, Any] = {"replies": {}, "served": {}}
    if served is not None:
        served.readings.write(directory)
        told["replies"] = served.readings.counts()
        told["served"] = served.report(ctx.name, ctx.progress)
    rest = {"seeds": measured.seeds, "rows": measured.rows, "kinds": measured.kinds, "report": measured.report}
    write_json(directory / MEASURED, rest | told)


def _read_measured(directory: Path) -> tuple[Measured, dict[str, Any]]:
    with readable(directory / NUMBERS):
        arrays = load_file(directory / NUMBERS)
    told = json.loads((directory / MEASURED).read_text(encoding="utf-8"))
    rest = {name: told[name] for name in ("seeds", "rows", "kinds", "report")}
    return Measured(**{name: arrays[name] for name in ARRAYS}, **rest), told


def _kept(pool: Pool, graded: Graded, ledger: Ledger, task: Task) -> Iterator[Document]:
    """Yields the kept documents with their grades. `source` is set to the source's name in the recipe, because the
    grades already record the quality."""
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
        task.advance(len(batch))


def _columns(pool: Pool, graded: Graded, row: int) -> Document:
    return {
        "quality": graded.labels[row],
        "source": pool.origins[pool.sources[row]].name,
        **dict(zip(NAMES, graded.grades_NT[row].tolist(), strict=True)),
        SIMILARITY: float(graded.similarity_N[row]),
        "value": float(graded.values_N[row]),
        "value_terms": graded.explain(row),
    }


def _annotator(config: GradingConfig, ctx: StageContext) -> ServedAnnotator | None:
    """Returns the served model that the recipe specifies, or None if the annotator is `rules`."""
    if config.annotator == "rules":
        return None
    # Import here, because these modules load torch, which curate does not need otherwise.
    from thinkling.generate.client import ServedModel
    from thinkling.quality.served_annotator import ServedAnnotator

    where = f"stages.{ctx.name}.grading.annotator"
    return ServedAnnotator(ServedModel(config.annotator, where, ctx.answers, ctx.progress))
