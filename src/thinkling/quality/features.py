"""Features for the labeller: an LSA vector and surface statistics, both fitted on the pool.

LSA (Deerwester et al. 1990) applies tf-idf and a truncated singular value decomposition to hashed counts of words and
word pairs. LSA needs no pretrained weights, which avoids licence questions. Each statistic is converted to its rank
within the pool, and the rank to a piecewise linear basis, so that a linear model can fit curves. Because a statistic
means different things in code, prose and formulas, the ranks are repeated for each of G groups that k-means finds among
the vectors.

Shapes: N texts, W hash buckets in use, K dimensions of the LSA, S surface statistics, Q quantiles, G groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinkling.data.ngrams import WordHasher, windows
from thinkling.errors import UserError
from thinkling.quality import surface

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float32]

BUCKETS = 2**17
_QUANTILES = np.linspace(0, 1, 41)
_BENDS = (0.1, 0.3, 0.5, 0.7, 0.9)
_TOKEN = re.compile(r"[A-Z](?![a-z])|[^\W\d_]+|\d|[^\w\s]")
_MIN_DOCUMENTS = 3
_GROUPS, _POWER_ITERATIONS = 5, 4
_SEEDS = 2**32
"""scikit-learn only accepts seeds below this value."""


@dataclass(frozen=True)
class Features:
    """Numeric features of texts."""

    embedding_NK: Floats
    """LSA vectors of length 1; zero for texts without a known word."""
    surface_NS: npt.NDArray[np.float64]


class FeatureSpace:
    """Maps texts to `Features`, and `Features` to the input rows of a linear model."""

    ARRAYS = ("buckets_W", "idf_W", "components_KW", "quantiles_SQ", "centres_GK")
    """Names of the arrays returned by `arrays`."""

    def __init__(
        self,
        buckets_W: npt.NDArray[np.int64],
        idf_W: Floats,
        components_KW: Floats,
        quantiles_SQ: Floats,
        centres_GK: Floats,
    ) -> None:
        self._buckets_W = buckets_W
        self._idf_W = idf_W
        self._components_KW = components_KW
        self._quantiles_SQ = quantiles_SQ
        self._centres_GK = centres_GK
        self._hasher = WordHasher()

    @classmethod
    def fit(cls, texts: Iterable[str], dimensions: int, seed: int) -> FeatureSpace:
        """Fit to texts of the pool. K is `dimensions`, or less if there are too few texts or words.

        Raises UserError if scipy or scikit-learn is not installed, or if fewer than two words occur in at least three
        texts.
        """
        hasher, buckets, counts, lengths, measured = WordHasher(), [], [], [], []
        for text in texts:
            found, times = _hashed(text, hasher)
            buckets.append(found)
            counts.append(times)
            lengths.append(len(found))
            measured.append(surface.measure(text))
        all_buckets = np.concatenate([*buckets, np.empty(0, np.int64)])
        kept_W, in_texts = np.unique(all_buckets, return_counts=True)
        kept_W = kept_W[in_texts >= _MIN_DOCUMENTS]
        if len(kept_W) < 2:
            raise UserError(
                "grading: the documents have too few words in common to fit the labeller; add more documents"
            )
        in_texts = in_texts[in_texts >= _MIN_DOCUMENTS]
        idf_W = (np.log((1 + len(lengths)) / (1 + in_texts)) + 1).astype(np.float32)
        matrix = _matrix(buckets, counts, kept_W, idf_W)
        k = min(dimensions, len(lengths) - 1, len(kept_W) - 1)
        components_KW = _right_singular_vectors(matrix, k, seed)
        quantiles_SQ = np.quantile(np.array(measured), _QUANTILES, axis=0).T.astype(np.float32)
        centres_GK = _centres(_projected(matrix, components_KW), seed)
        return cls(kept_W, idf_W, components_KW, quantiles_SQ, centres_GK)

    @property
    def dimensions(self) -> int:
        """K, the dimension of the LSA vectors."""
        return len(self._components_KW)

    def features(self, texts: Sequence[str]) -> Features:
        """Return the features of the texts. The features of a text do not depend on the other texts."""
        if not texts:
            empty = np.empty((0, len(surface.NAMES)))
            return Features(np.empty((0, self.dimensions), np.float32), empty)
        hashed = [_hashed(text, self._hasher) for text in texts]
        matrix = _matrix([b for b, _ in hashed], [c for _, c in hashed], self._buckets_W, self._idf_W)
        return Features(_projected(matrix, self._components_KW), np.array([surface.measure(text) for text in texts]))

    def rows(self, features: Features) -> Floats:
        """Return the input of a linear model, (N, K + S·(1 + bends) + G·(1 + S)), with values between about −1 and
        1."""
        ranks_NS = np.stack(
            [
                np.interp(column, quantiles, _QUANTILES)
                for column, quantiles in zip(features.surface_NS.T, self._quantiles_SQ, strict=True)
            ],
            axis=1,
        )
        bent = [np.maximum(ranks_NS - bend, 0) for bend in _BENDS]
        group_N = np.argmax(features.embedding_NK @ self._centres_GK.T, axis=1)
        in_group_NG = np.eye(len(self._centres_GK))[group_N]
        of_group_NGS = in_group_NG[:, :, None] * (ranks_NS - 0.5)[:, None, :]
        scale = np.float32(np.sqrt(self.dimensions) / 4)
        columns = [features.embedding_NK * scale, ranks_NS - 0.5, *bent, in_group_NG]
        return np.hstack([*columns, *np.moveaxis(of_group_NGS, 1, 0)]).astype(np.float32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that define a `FeatureSpace`, by name."""
        return {
            "buckets_W": self._buckets_W,
            "idf_W": self._idf_W,
            "components_KW": self._components_KW,
            "quantiles_SQ": self._quantiles_SQ,
            "centres_GK": self._centres_GK,
        }


def _right_singular_vectors(matrix: csr_matrix, k: int, seed: int) -> Floats:
    """Return the (k, W) right singular vectors of the k largest singular values, by random projection (Halko,
    Martinsson and Tropp 2011)."""
    try:
        from sklearn.decomposition import TruncatedSVD
    except ImportError as error:
        raise UserError(
            "grading needs scikit-learn; run pip install 'thinkling[curate]', or replace grading with quality"
        ) from error

    svd = TruncatedSVD(k, n_iter=_POWER_ITERATIONS, power_iteration_normalizer="QR", random_state=seed % _SEEDS)
    return np.ascontiguousarray(svd.fit(matrix).components_)


def _projected(matrix: csr_matrix, components_KW: Floats) -> Floats:
    """Return the (N, K) LSA vectors, scaled to length 1."""
    projected_NK = np.asarray(matrix @ components_KW.T, np.float32)
    lengths_N = np.linalg.norm(projected_NK, axis=1, keepdims=True)
    return projected_NK / np.maximum(lengths_N, np.float32(1e-9))


def _centres(vectors_NK: Floats, seed: int) -> Floats:
    """Return the (G, K) k-means cluster centres, scaled to length 1."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    groups = KMeans(min(_GROUPS, len(vectors_NK)), random_state=seed % _SEEDS)
    with threadpool_limits(1, user_api="openmp"):  # with several threads, the order of summation would vary
        centres_GK = groups.fit(vectors_NK).cluster_centers_
    return (centres_GK / np.maximum(np.linalg.norm(centres_GK, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _hashed(text: str, hasher: WordHasher) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the buckets of the words and word pairs in a text's excerpt, in ascending order, and their counts."""
    words = [word.lower() if len(word) > 1 else word for word in _TOKEN.findall(surface.excerpt(text))]
    hashes = hasher(words)
    grams = np.concatenate([windows(hashes, 1), windows(hashes, 2)])
    return np.unique((grams % np.uint64(BUCKETS)).astype(np.int64), return_counts=True)


def _matrix(
    buckets: Sequence[npt.NDArray[np.int64]],
    counts: Sequence[npt.NDArray[np.int64]],
    kept_W: npt.NDArray[np.int64],
    idf_W: Floats,
) -> csr_matrix:
    """Return the (N, W) tf-idf matrix (1 + log(count)) · idf, with rows scaled to length 1."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise UserError(
            "grading needs scipy; run pip install 'thinkling[curate]', or replace grading with quality"
        ) from error

    column = np.full(BUCKETS, -1, np.int64)
    column[kept_W] = np.arange(len(kept_W))
    indices, values, offsets = [], [], [0]
    for found, times in zip(buckets, counts, strict=True):
        places = column[found]
        known = places >= 0
        weights = (1 + np.log(times[known])) * idf_W[places[known]]
        length = np.sqrt(np.sum(weights * weights))
        indices.append(places[known])
        values.append((weights / length if length else weights).astype(np.float32))
        offsets.append(offsets[-1] + len(weights))
    shape = (len(buckets), len(kept_W))
    return csr_matrix((np.concatenate(values), np.concatenate(indices), offsets), shape=shape)
