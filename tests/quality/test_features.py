"""The feature space: of texts alone, equal in every run, saved and loaded without loss."""

from __future__ import annotations

import builtins
import random

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.quality.texts import advertisement, prose
from thinkling.errors import UserError
from thinkling.quality.features import Features, FeatureSpace, _right_singular_vectors

RNG = random.Random(0)
TEXTS = [prose(RNG) for _ in range(30)] + [advertisement(RNG) for _ in range(30)]


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    return FeatureSpace.fit(TEXTS, 8, seed=0)


def test_neighbours_are_texts_of_one_kind(space: FeatureSpace) -> None:
    embedding = space.features(TEXTS).embedding_NK
    assert embedding.shape == (60, 8)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    likeness = embedding @ embedding.T
    np.fill_diagonal(likeness, -1)
    assert ((likeness.argmax(1) < 30) == (np.arange(60) < 30)).all()


def test_a_text_has_the_same_features_beside_any_others(space: FeatureSpace) -> None:
    together, alone = space.features(TEXTS[:5]), space.features(TEXTS[3:4])
    np.testing.assert_array_equal(together.embedding_NK[3], alone.embedding_NK[0])
    np.testing.assert_array_equal(together.surface_NS[3], alone.surface_NS[0])


def test_equal_runs_are_equal(space: FeatureSpace) -> None:
    again = FeatureSpace.fit(TEXTS, 8, seed=0)
    for name, array in space.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])


def test_singular_vectors_are_those_of_the_whole_decomposition() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(60, 8)) * 2.0 ** -np.arange(8)) @ rng.normal(size=(8, 90))
    found = _right_singular_vectors(csr_matrix(dense.astype(np.float32)), 4, rng)
    wanted = np.linalg.svd(dense)[2][:4]
    assert np.abs(found @ wanted.T) == pytest.approx(np.eye(4), abs=1e-3)


def test_rows_are_finite_and_of_one_width(space: FeatureSpace) -> None:
    odd = ["", " ", "§", "a" * 50_000, "\n\n"]
    rows = space.rows(space.features([*TEXTS, *odd]))
    assert np.isfinite(rows).all()
    assert rows.shape[1] == space.rows(space.features([])).shape[1]
    assert np.abs(rows).max() < 4


def test_features_hold_nothing_but_numbers_of_the_text(space: FeatureSpace) -> None:
    assert set(Features.__dataclass_fields__) == {"embedding_NK", "surface_NS"}


def test_a_pool_without_common_words_is_an_error() -> None:
    with pytest.raises(UserError, match="no words"):
        FeatureSpace.fit(["one", "two"], 8, seed=0)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"thinkling\[curate\]"):
        FeatureSpace.fit(TEXTS, 8, seed=0)
