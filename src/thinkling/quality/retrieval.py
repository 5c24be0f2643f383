"""Hybrid retrieval over the pool: full-text and vector search in LanceDB with rank fusion. Seed documents are the
queries.

LanceDB is an embedded database: it stores its data in a directory and needs no server. Below `EXACT_BELOW` rows,
vectors are searched exactly, without an index; from that number on, an IVF_RQ index is built, and
`Retriever.recall_probe` measures its recall. Ties are broken by row order, so equal pools produce equal results.

Each query is a separate hybrid search of about 10 ms; billions of documents would require a partitioned join instead.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thinkling.errors import UserError
from thinkling.quality.features import Floats

EXACT_BELOW = 100_000
"""Number of rows below which no vector index is built, because an index would only reduce precision, as LanceDB's
documentation also states."""
RRF = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""
_SLACK = 50
_TERM = re.compile(r"\w{2,40}")
_REFINE, _PROBES = 5, 20


@dataclass(frozen=True)
class Seed:
    """A document of known quality that serves as a query."""

    terms: str
    """The document's most distinctive words (`telling_terms`)."""
    vector_K: Floats
    row: int | None = None
    """The document's row if the document is in the pool, so that it can be excluded from its own results."""


class Retriever:
    """A LanceDB table with the documents of the pool. Rows are numbered from 0 in insertion order."""

    def __init__(self, directory: Path, exact_below: int = EXACT_BELOW) -> None:
        """Open the database in the directory. Raises UserError if lancedb is not installed."""
        self._lancedb = _lancedb()
        self._database = self._lancedb.connect(str(directory))
        self._table: Any = None
        self._exact_below = exact_below
        self.n_rows = 0

    @property
    def exact(self) -> bool:
        """Whether vector search compares the query with every row."""
        return self.n_rows < self._exact_below

    def add(self, texts: Sequence[str], vectors_NK: Floats) -> None:
        """Append rows to the table. Call `build` once all rows are added."""
        k = vectors_NK.shape[1]
        flat = pa.array(np.ascontiguousarray(vectors_NK, np.float32).ravel())
        rows = pa.table(
            {
                "row": pa.array(range(self.n_rows, self.n_rows + len(texts)), pa.int64()),
                "text": pa.array(texts, pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(flat, k),
            }
        )
        if self._table is None:
            self._table = self._database.create_table("pool", rows)
        else:
            self._table.add(rows)
        self.n_rows += len(texts)

    def build(self) -> None:
        """Build the full-text index, and the vector index if there are enough rows.

        The full-text index is built by one worker, because several workers would compute BM25 scores per partition.
        """
        from lancedb.index import FTS, IvfRq

        self._table.create_index("text", config=FTS(num_workers=1), replace=True)
        if not self.exact:
            self._table.create_index("vector", config=IvfRq(distance_type="cosine"), replace=True)

    def search_text(self, terms: str, k: int) -> list[int]:
        """Return the k rows with the highest BM25 score for the terms, best first."""
        from lancedb.query import MatchQuery

        if not terms:
            return []
        match = MatchQuery(terms, "text")  # pyright: ignore[reportCallIssue]  # pyright does not see the defaults
        query = self._table.search(match, query_type="fts").select(["row", "_score"])
        found = query.limit(k + _SLACK).to_arrow()
        return _best(found["row"].to_numpy(), -found["_score"].to_numpy(), k)

    def search_vector(self, vector_K: Floats, k: int, exact: bool = False) -> list[int]:
        """Return the k nearest rows by cosine similarity, best first. `exact` bypasses the index."""
        query = self._table.search(vector_K, vector_column_name="vector").distance_type("cosine")
        if exact:
            query = query.bypass_vector_index()
        elif not self.exact:
            query = query.nprobes(_PROBES).refine_factor(_REFINE)
        found = query.select(["row", "_distance"]).limit(k + _SLACK).to_arrow()
        return _best(found["row"].to_numpy(), found["_distance"].to_numpy(), k)

    def search(self, terms: str, vector_K: Floats, k: int) -> dict[int, float]:
        """Run both searches with k results each. Return a mapping from each row found to the sum of 1 / (60 + rank)
        over the two lists of results. Ranks start at 1."""
        scores: dict[int, float] = {}
        for rows in (self.search_text(terms, k), self.search_vector(vector_K, k)):
            for rank, row in enumerate(rows, start=1):
                scores[row] = scores.get(row, 0.0) + 1 / (RRF + rank)
        return scores

    def recall_probe(self, queries_NK: Floats, k: int) -> float:
        """Measure the average recall@k of vector search over the queries. The result is 1 if the search is exact."""
        fractions = []
        for vector in queries_NK:
            wanted = set(self.search_vector(vector, k, exact=True))
            fractions.append(len(wanted.intersection(self.search_vector(vector, k))) / max(len(wanted), 1))
        return float(np.mean(fractions)) if fractions else 1.0


def similarity(retriever: Retriever, seeds: Sequence[Seed], k: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the contribution of each seed to the similarity of every row; the sum is the unscaled similarity.

    A row ranked first in both lists gets 1, and lower ranks get less. A seed does not contribute to its own row.
    """
    for seed in seeds:
        added_N = np.zeros(retriever.n_rows)
        for row, score in retriever.search(seed.terms, seed.vector_K, k).items():
            if row != seed.row:
                added_N[row] = score * (RRF + 1) / 2
        yield added_N


def scaled(total_N: npt.NDArray[np.float64], n_seeds: int) -> Floats:
    """Convert the sum of `similarity` to a logarithmic scale: 0 for a row that was not found for any seed, 1 for a row
    that was ranked first for every seed."""
    return (np.log1p(total_N) / math.log1p(max(n_seeds, 1))).astype(np.float32)


def terms_of(text: str) -> list[str]:
    """Split a text into lower-case words in the same way as full-text search does."""
    return [term.lower() for term in _TERM.findall(text)]


def telling_terms(text: str, frequencies: Mapping[str, int], n_texts: int, n: int = 16) -> str:
    """Return the n words of a text with the highest tf-idf, to be used as the full-text query. Words that do not occur
    in `frequencies` are omitted. `frequencies`: word, as split by `terms_of` → number of texts, out of `n_texts`, that
    contain the word."""
    weights = {
        term: (1 + math.log(count)) * math.log(1 + n_texts / frequencies[term])
        for term, count in Counter(terms_of(text)).items()
        if frequencies.get(term, 0) > 0
    }
    return " ".join(sorted(weights, key=lambda term: (-weights[term], term))[:n])


def _best(rows: npt.NDArray[np.int64], costs: npt.NDArray[np.floating], k: int) -> list[int]:
    """Return the k rows with the lowest cost, lowest first. Ties are broken by row order."""
    return rows[np.lexsort((rows, costs))][:k].tolist()


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            "grading needs lancedb; run pip install 'thinkling[curate]', or replace grading with quality"
        ) from error
    logging.getLogger("lancedb").setLevel(logging.ERROR)  # lancedb warns about omitted columns at every query
    return lancedb
