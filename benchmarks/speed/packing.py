"""Best-fit packing of real documents: padding at 4K and 64K, and rows against TRL's best fit.

    THINKLING_DATA=... python -m benchmarks.speed.packing

The documents are those of $THINKLING_DATA/corpus, tokenized with a vocabulary of 8,192 that is trained on them. Each
file with at least 50 documents is a source, and so are all files together. Rows are made as in training, over eight
epochs or more, and divided by the number of epochs.

pack.waste: the fraction of padding of all files together, the larger of rows of 4,096 and of 65,536 tokens. The
fractions of single files are in the details; they are higher for files with few documents, many longer than half
a row.
pack.rows: rows per epoch relative to TRL's `bfd_split`, which cuts long documents as we do, and to TRL's `bfd` on the
documents that fit, as it would truncate the others. TRL packs all documents of a source at once. Its last row stays
partly empty, and ours does not, so the rows of a single call of `best_fit` are compared as well. The largest ratio
counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.real_documents import documents
from thinkling.data.best_fit import BestFitRows, best_fit
from thinkling.data.packing import Cursor, SourceRows
from thinkling.data.shards import MemorySource
from thinkling.data.tokenizer import train_bpe

LENGTHS = (4096, 65_536)
EPOCHS = 8
FEWEST_DOCUMENTS = 50
VOCABULARY = 8192


def lengths_by_source(texts: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """The number of tokens per document, with the end-of-text token, of each source and of all sources together."""
    tokenizer = train_bpe((text for part in texts.values() for text in part), VOCABULARY)
    found = {name: np.array([len(ids) + 1 for ids in tokenizer.encode_batch(part)]) for name, part in texts.items()}
    many = {name: lengths for name, lengths in found.items() if len(lengths) >= FEWEST_DOCUMENTS}
    return {"all": np.concatenate(list(found.values())), **many}


def rows_per_epoch(rows: BestFitRows | SourceRows) -> tuple[float, float]:
    """Rows per epoch, and the fraction of padding in them.

    The rows are counted where all documents passed are in rows, except for what fits in one more row, which is counted
    as well, but not as padding.
    """
    n_rows = -(-EPOCHS * int(rows.source.lengths.sum()) // rows.sequence_length)
    while left_over(rows.cursor_after(n_rows)) > rows.sequence_length:
        n_rows += 1
    cursor = rows.cursor_after(n_rows)
    epochs = (cursor.ordinal + (cursor.offset > 0)) / rows.source.n_documents
    padding = 1 - rows.tokens(n_rows) / (n_rows * rows.sequence_length)
    return (n_rows + (left_over(cursor) > 0)) / epochs, padding


def left_over(cursor: Cursor) -> int:
    """The tokens of documents passed that are in no row."""
    return sum(piece.stop - piece.start for piece in cursor.pending)


def rows_of_trl(lengths: np.ndarray, sequence_length: int, strategy: str) -> int:
    """The rows of TRL's packing of all documents at once."""
    import datasets
    from trl.data_utils import pack_dataset

    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"input_ids": [[1] * n for n in lengths.tolist()]})
    everything = {"batch_size": len(lengths), "load_from_cache_file": False, "keep_in_memory": True}
    return len(pack_dataset(data, sequence_length, strategy, everything))


def cut(lengths: np.ndarray, sequence_length: int) -> np.ndarray:
    """The lengths after documents longer than a row are cut into whole rows and a rest."""
    return np.array([min(sequence_length, n - t) for n in lengths.tolist() for t in range(0, n, sequence_length)])


def compare(name: str, lengths: np.ndarray, sequence_length: int) -> dict[str, Any]:
    """Padding and rows of one source and row length."""
    found: dict[str, Any] = {"source": name, "documents": len(lengths), "tokens": int(lengths.sum())}
    found["sequence_length"] = sequence_length
    fitting = lengths[lengths <= sequence_length]
    for strategy, packed in (("bfd_split", lengths), ("bfd", fitting)):
        source = MemorySource("documents", [np.empty(n, dtype=np.int8) for n in packed])
        per_epoch, padding = rows_per_epoch(BestFitRows(source, 0, sequence_length))
        theirs = rows_of_trl(packed, sequence_length, strategy)
        once = best_fit(cut(packed, sequence_length), sequence_length)[1]
        found[strategy] = {
            "rows_per_epoch": round(per_epoch, 2),
            "rows_of_trl": theirs,
            "rows_of_one_window": once,
            "ratio": max(per_epoch, once) / theirs,
            "waste": padding,
            "waste_of_trl": round(1 - packed.sum() / (theirs * sequence_length), 6),
            "waste_sequential": round(rows_per_epoch(SourceRows(source, 0, sequence_length))[1], 6),
        }
    return found


def main() -> None:
    sources = lengths_by_source(documents())
    runs = [compare(name, lengths, n) for n in LENGTHS for name, lengths in sources.items()]
    for run in runs:
        print(json.dumps(run))
    parts = [run[strategy] for run in runs for strategy in ("bfd_split", "bfd")]
    whole = [run["bfd_split"] for run in runs if run["source"] == "all"]
    measurements = {
        "pack.waste": {"value": max(p["waste"] for p in whole), "n": len(whole), "unit": "fraction", "runs": runs},
        "pack.rows": {"value": max(p["ratio"] for p in parts), "n": len(parts), "unit": "ratio"},
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
