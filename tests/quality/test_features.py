"""The feature space: of texts alone, equal in every run, saved and loaded without loss."""

from __future__ import annotations

import builtins
import random

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.quality.texts import advertisement, prose
from thinkling.errors import UserError
from thinkling.quality.features import Features, FeatureSpace, _centres, _right_singular_vectors

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
    found = _right_singular_vectors(csr_matrix(dense.astype(np.float32)), 4, seed=0)
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
    with pytest.raises(UserError, match="too few words"):
        FeatureSpace.fit(["one", "two"], 8, seed=0)


def test_groups_are_those_of_the_vectors_and_have_centres_of_length_1() -> None:
    rng = np.random.default_rng(0)
    of_N = np.arange(1000) % 5
    vectors = np.eye(5, 8, dtype=np.float32)[of_N] + rng.normal(scale=0.02, size=(1000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centres = _centres(vectors, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert len({(int(group), int(one)) for group, one in zip((vectors @ centres.T).argmax(1), of_N, strict=True)}) == 5
    np.testing.assert_array_equal(centres, _centres(vectors, seed=0))
    assert centres.dtype == np.float32


def test_a_seed_of_64_bits_is_taken() -> None:
    assert FeatureSpace.fit(TEXTS, 8, seed=2**63 + 1).dimensions == 8


@pytest.mark.parametrize("n_texts", [3, 5, 11])
def test_a_pool_of_few_texts_has_fewer_dimensions_and_groups(n_texts: int) -> None:
    space = FeatureSpace.fit(TEXTS[:n_texts], 128, seed=0)
    assert space.dimensions == n_texts - 1
    assert np.isfinite(space.rows(space.features(TEXTS))).all()


@pytest.mark.parametrize("library", ["scipy", "sklearn"])
def test_without_a_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith(library):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"thinkling\[curate\]"):
        FeatureSpace.fit(TEXTS, 8, seed=0)
