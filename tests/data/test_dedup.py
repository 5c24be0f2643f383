"""Exact deduplication against a plain definition."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.dedup import normalise, unique
from thinkling.data.documents import Counts, RejectedWriter


def deduplicated(texts: list[str], folder: Path) -> tuple[list[str], Counts, list[dict]]:
    documents = [
        {"id": f"d{i}", "text": text, "source": "s", "quality": "hq", "markup": False} for i, text in enumerate(texts)
    ]
    counts = Counts("dedup")
    with RejectedWriter(folder / "rejected.parquet") as rejected:
        kept = [document["id"] for document in unique(documents, counts, rejected)]
    return kept, counts, pq.read_table(folder / "rejected.parquet").to_pylist()


def test_the_first_of_equal_documents_stays(tmp_path: Path) -> None:
    texts = ["a b\n", "c", " a\t b", "A b", "café", "cafe\u0301", "c"]
    kept, counts, rejected = deduplicated(texts, tmp_path)
    assert kept == ["d0", "d1", "d3", "d4"]
    assert [(row["id"], row["reason"], row["detail"]) for row in rejected] == [
        ("d2", "duplicate", "of d0"),
        ("d5", "duplicate", "of d4"),
        ("d6", "duplicate", "of d1"),
    ]
    assert counts.as_dict() == {"in": 7, "kept": 4, "rejected": {"duplicate": 3}}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aB \n", max_size=4), max_size=30))
def test_one_document_a_normalised_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    kept, counts, _ = deduplicated(texts, tmp_path_factory.mktemp("dedup"))
    assert len(kept) == len({normalise(text) for text in texts})
    counts.check()
