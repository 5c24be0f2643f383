"""Hybrid retrieval against plain search over all rows."""

from __future__ import annotations

import builtins
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from thinkling.errors import UserError
from thinkling.quality.retrieval import RRF, Retriever, Seed, scaled, similarity, telling_terms, terms_of

WORDS = ["parser", "thread", "socket", "buffer", "lambda", "kernel", "vector", "cursor"]


def filled(directory: Path, n: int = 300, exact_below: int = 100_000) -> tuple[Retriever, list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) + f" unique{i}" for i in range(n)]
    centres = rng.normal(size=(10, 16))
    vectors = centres[np.arange(n) % 10] + 0.3 * rng.normal(size=(n, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    retriever = Retriever(directory, exact_below)
    retriever.add(texts[: n // 2], vectors[: n // 2])
    retriever.add(texts[n // 2 :], vectors[n // 2 :])
    retriever.build()
    return retriever, texts, vectors


def test_search_finds_words_and_nearest_vectors(tmp_path: Path) -> None:
    retriever, _, vectors = filled(tmp_path)
    assert retriever.search_text("unique17", 5) == [17]
    assert retriever.search_text("", 5) == []
    assert retriever.search_text("nowhere", 5) == []
    likeness = vectors @ vectors[17]
    assert retriever.search_vector(vectors[17], 10) == np.argsort(-likeness, kind="stable")[:10].tolist()
    assert retriever.exact
    assert retriever.recall_probe(vectors[:3], 10) == 1.0


def test_hybrid_is_fused_by_rank(tmp_path: Path) -> None:
    retriever, _, vectors = filled(tmp_path)
    text, near = retriever.search_text("parser thread", 20), retriever.search_vector(vectors[3], 20)
    found = retriever.search("parser thread", vectors[3], 20)
    assert set(found) == {*text, *near}
    for row, score in found.items():
        parts = [1 / (RRF + ranks.index(row) + 1) for ranks in (text, near) if row in ranks]
        assert score == pytest.approx(sum(parts))


def test_equal_pools_give_equal_results(tmp_path: Path) -> None:
    (one, _, vectors), (two, _, _) = filled(tmp_path / "one"), filled(tmp_path / "two")
    for row in range(0, 300, 30):
        terms = " ".join(WORDS[: row % 5 + 1])
        assert one.search(terms, vectors[row], 50) == two.search(terms, vectors[row], 50)


def test_no_document_recommends_itself(tmp_path: Path) -> None:
    retriever, texts, vectors = filled(tmp_path)
    seeds = [Seed(texts[row], vectors[row], row) for row in (4, 14)]
    first, second = similarity(retriever, seeds, 40)
    assert first[4] == 0
    assert second[14] == 0
    assert first[14] > 0
    foreign = next(iter(similarity(retriever, [Seed(texts[4], vectors[4])], 40)))
    assert foreign[4] == pytest.approx(1)  # first in both lists
    values = scaled(first + second, 2)
    assert values.min() == 0
    assert values.max() <= 1


def test_above_the_limit_an_index_is_built_and_probed(tmp_path: Path) -> None:
    retriever, _, vectors = filled(tmp_path, 2000, exact_below=1000)
    assert not retriever.exact
    assert retriever.recall_probe(vectors[:10], 10) >= 0.9


def test_telling_terms_are_the_rare_ones_that_the_pool_holds() -> None:
    frequencies = Counter({"the": 100, "parser": 3, "socket": 30})
    assert telling_terms("The parser, the socket, the unheard-of", frequencies, 100, 2) == "parser socket"
    assert terms_of("The Parser: a_b x") == ["the", "parser", "a_b"]


def test_without_lancedb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("lancedb"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"thinkling\[curate\]"):
        Retriever(tmp_path)
