"""The labeller, which predicts the 20 grades of any text and is trained on a few thousand annotated examples.

Each tag has one head: a ridge regression on the features, rescaled so that predictions for unseen examples have the
same spread as annotated grades (regression alone shrinks predictions towards the mean), and rounded to a grade from 0
to 9.

A labeller is saved as safetensors and JSON, without pickle. Shapes: N texts, F features (with a constant), T tags.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from thinkling.data.artifact import write_json
from thinkling.data.readers import readable
from thinkling.errors import UserError
from thinkling.quality.features import Features, FeatureSpace, Floats
from thinkling.quality.tags import HIGHEST, NAMES, Grades

Doubles = npt.NDArray[np.float64]
WEIGHTS, DESCRIPTION = "labeller.safetensors", "labeller.json"
_FORMAT = 1
_FOLDS = 2


@dataclass(frozen=True)
class Agreement:
    """Agreement between predicted and annotated grades of one tag."""

    n: int
    kappa: float | None
    """Quadratic-weighted kappa (Cohen 1968); None if all annotated and predicted grades have the same value."""
    mae: float
    """Mean absolute difference, in grades."""


class Heads:
    """Linear models that map rows of features to grades, one per tag."""

    def __init__(self, weights_FT: Doubles) -> None:
        self.weights_FT = weights_FT

    @classmethod
    def fit(cls, rows_NF: Floats, grades_NT: Doubles, ridge: float) -> Heads:
        """Fit to annotated grades; NaN marks a missing grade. A tag without annotations is always graded 0."""
        x_NF = _with_constant(rows_NF)
        fold_N = np.random.default_rng(0).permutation(len(x_NF)) % _FOLDS
        unseen_NT = np.empty_like(grades_NT)
        for fold in range(_FOLDS):
            weights_FT = _solve(x_NF[fold_N != fold], grades_NT[fold_N != fold], ridge)
            unseen_NT[fold_N == fold] = x_NF[fold_N == fold] @ weights_FT
        weights_FT = _solve(x_NF, grades_NT, ridge)
        for t in range(grades_NT.shape[1]):
            known_N = ~np.isnan(grades_NT[:, t])
            if known_N.any():
                values_N, wanted_N = unseen_NT[known_N, t], grades_NT[known_N, t]
                stretch = wanted_N.std() / max(values_N.std(), 1e-6)
                weights_FT[:, t] *= stretch
                weights_FT[-1, t] += wanted_N.mean() - stretch * values_N.mean()
        return cls(weights_FT)

    def grades(self, rows_NF: Floats) -> npt.NDArray[np.int8]:
        """Return (N, T) grades."""
        values_NT = _with_constant(rows_NF) @ self.weights_FT
        return np.clip(np.round(values_NT), 0, HIGHEST).astype(np.int8)


class Labeller:
    """A feature space and heads, which together grade texts."""

    def __init__(self, space: FeatureSpace, heads: Heads) -> None:
        self.space = space
        self.heads = heads

    def grade(self, features: Features) -> npt.NDArray[np.int8]:
        """Return (N, T) grades, with tags in the order of `tags.NAMES`."""
        return self.heads.grades(self.space.rows(features))

    def grade_texts(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        """Return (N, T) grades of texts, with tags in the order of `tags.NAMES`. A text's grades do not depend on the
        other texts."""
        return self.grade(self.space.features(texts))

    def save(self, directory: Path) -> None:
        """Write labeller.safetensors and labeller.json."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = self.space.arrays() | {"weights_FT": self.heads.weights_FT}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, directory / WEIGHTS)
        write_json(directory / DESCRIPTION, {"format": _FORMAT, "tags": list(NAMES), "highest": HIGHEST})

    @classmethod
    def load(cls, directory: Path) -> Labeller:
        """Load a saved labeller. Raises UserError if a file is missing or corrupt, or was written for different
        tags."""
        with readable(directory / DESCRIPTION):
            description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        if description.get("format") != _FORMAT or description.get("tags") != list(NAMES):
            raise UserError(
                f"{directory / DESCRIPTION}: the labeller uses different tags; rerun the curate stage that wrote it"
            )
        with readable(directory / WEIGHTS):
            arrays = load_file(directory / WEIGHTS)
        if arrays.keys() != {*FeatureSpace.ARRAYS, "weights_FT"}:
            raise UserError(
                f"{directory / WEIGHTS}: does not contain the arrays of a labeller; rerun the curate stage that wrote "
                "it"
            )
        heads = Heads(arrays.pop("weights_FT"))
        return cls(FeatureSpace(**arrays), heads)


def as_array(grades: Iterable[Grades]) -> Doubles:
    """Return (N, T) grades, with NaN for missing grades."""
    return np.array([[one.get(name, np.nan) for name in NAMES] for one in grades], np.float64).reshape(-1, len(NAMES))


def agreement(annotated_NT: Doubles, predicted_NT: npt.NDArray[np.int8]) -> dict[str, Agreement]:
    """Compute the agreement for each tag that has annotations."""
    found = {}
    for t, name in enumerate(NAMES):
        known = ~np.isnan(annotated_NT[:, t])
        if known.any():
            annotated, predicted = annotated_NT[known, t].astype(np.int64), predicted_NT[known, t].astype(np.int64)
            mae = float(np.abs(annotated - predicted).mean())
            found[name] = Agreement(int(known.sum()), weighted_kappa(annotated, predicted), mae)
    return found


def weighted_kappa(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float | None:
    """Quadratic-weighted kappa of two lists of grades; None if all grades in both lists have the same value."""
    grades = np.arange(HIGHEST + 1)
    cost = (grades[:, None] - grades[None, :]) ** 2
    observed = np.zeros(cost.shape)
    np.add.at(observed, (a, b), 1)
    expected = np.outer(observed.sum(1), observed.sum(0)) / max(len(a), 1)
    by_chance = (cost * expected).sum()
    return float(1 - (cost * observed).sum() / by_chance) if by_chance else None


@dataclass(frozen=True)
class Annotated:
    """Features and grades of the training examples, which are sound texts and damaged forms of them."""

    rows_NF: Floats
    grades_NT: Doubles
    """Annotated grades; NaN for a missing grade."""
    kinds: Sequence[str]
    """Kind of damage; empty for a sound text."""
    texts: Sequence[int]
    """Index of the text from which an example was made; a sound text and its damaged forms have the same index."""

    def fit(self, chosen_N: npt.NDArray[np.bool_], ridge: float) -> Heads:
        """Fit heads to the chosen examples."""
        return Heads.fit(self.rows_NF[chosen_N], self.grades_NT[chosen_N], ridge)

    def unseen_grades(self, ridge: float) -> npt.NDArray[np.int8]:
        """Return (N, T) grades of the examples. The heads that grade an example are trained on the half of the texts
        that does not contain the example's text in any form."""
        half_N = np.unique(self.texts, return_inverse=True)[1] % 2
        found_NT = np.empty(self.grades_NT.shape, np.int8)
        for half in range(2):
            found_NT[half_N == half] = self.fit(half_N != half, ridge).grades(self.rows_NF[half_N == half])
        return found_NT

    def held_out_agreement(self, ridge: float, test_fraction: float = 1 / 3) -> dict[str, dict[str, Agreement]]:
        """Return, for each kind of damage, the agreement by tag of heads that were trained on neither this kind of
        damage nor any form of the test texts.

        The heads are evaluated on the test texts to which this kind of damage was applied, each in its sound and its
        damaged form. The entry `all` pools the results of all kinds.
        """
        kind_N, text_N = np.array(self.kinds), np.array(self.texts)
        test_N = text_N % round(1 / test_fraction) == 0
        judged_before: list[npt.NDArray[np.int64]] = []
        graded: list[npt.NDArray[np.int8]] = []
        found = {}
        for kind in dict.fromkeys(kind for kind in self.kinds if kind):
            heads = self.fit(~test_N & (kind_N != kind), ridge)
            affected = text_N[test_N & (kind_N == kind)]
            judged = np.flatnonzero(((kind_N == kind) | (kind_N == "")) & np.isin(text_N, affected))
            if len(judged):
                judged_before.append(judged)
                graded.append(heads.grades(self.rows_NF[judged]))
                found[kind] = agreement(self.grades_NT[judged], graded[-1])
        if graded:
            found["all"] = agreement(self.grades_NT[np.concatenate(judged_before)], np.concatenate(graded))
        return found


def _with_constant(rows_NF: Floats) -> Floats:
    return np.hstack([rows_NF, np.ones((len(rows_NF), 1), np.float32)])


def _solve(x_NF: Floats, grades_NT: Doubles, ridge: float) -> Doubles:
    """Solve a ridge regression for each tag on the rows that have a grade for the tag. The constant is not penalised.

    Tags that have grades for the same rows (P patterns) share a Gram matrix. Rows that have grades for the same tags
    are added to the Gram matrices in one product. The computation is in double precision because the columns are nearly
    dependent.
    """
    from scipy.linalg import solve

    f = x_NF.shape[1]
    penalty_F = np.full(f, float(ridge))
    penalty_F[-1] = 1e-6
    patterns_NP, pattern_T = np.unique(~np.isnan(grades_NT), axis=1, return_inverse=True)
    products_PFF = np.tile(np.diag(penalty_F), (patterns_NP.shape[1], 1, 1))
    cells, cell_N = np.unique(patterns_NP, axis=0, return_inverse=True)
    for number, cell_P in enumerate(cells):
        x = x_NF[cell_N == number].astype(np.float64)
        products_PFF[cell_P] += x.T @ x
    weights_FT = np.zeros((f, grades_NT.shape[1]))
    for number, known_N in enumerate(patterns_NP.T):
        tags = np.flatnonzero(pattern_T == number)
        right_FT = x_NF[known_N].T.astype(np.float64) @ grades_NT[np.ix_(known_N, tags)]
        weights_FT[:, tags] = solve(products_PFF[number], right_FT, assume_a="pos")
    return weights_FT
