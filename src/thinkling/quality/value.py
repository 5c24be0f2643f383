"""The quality value of a document, computed from grades and similarity, and the split into HQ, MQ and rejected
documents.

The value is a sum with one term per tag and one term for similarity. The sum is easy to explain: each term shows by how
much a grade raises or lowers the value of the document relative to the pool average. The recipe may set the weights;
otherwise the weights are fitted by logistic regression, so that the value separates good documents from the others.
Content and format tags are treated alike, and `importance` measures how much each group contributes.

Shapes: N documents, C columns (the tags in order, then similarity).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thinkling.data.readers import readable
from thinkling.errors import UserError
from thinkling.quality.features import Floats
from thinkling.quality.labeller import Doubles
from thinkling.quality.tags import HIGHEST, NAMES, TAGS

SIMILARITY = "similarity"
COLUMNS: tuple[str, ...] = (*NAMES, SIMILARITY)
OVER_BUDGET = "beyond the token budget"
_SHOWN = 3
_REPEATS = 5


@dataclass(frozen=True)
class QualityModel:
    """The linear model value = intercept + Σ weight · (column − mean), with columns in [0, 1]."""

    weights_C: Doubles
    means_C: Doubles
    intercept: float

    @classmethod
    def fit(
        cls,
        columns_NC: Doubles,
        good_N: npt.NDArray[np.bool_],
        penalty: float,
        weights_N: Doubles | None = None,
        monotone: bool = True,
    ) -> QualityModel:
        """Fit a logistic regression on standardised columns. The value is the log odds.

        `weights_N`: sample weights that sum to 1; by default, half for the good documents and half for the others.
        `penalty`: factor of the squared weights in the loss. `monotone`: whether negative weights are forbidden,
        because 9 is the best grade of every tag. Raises UserError if scipy is not installed, and ValueError if all
        documents are good or none is.
        """
        if good_N.all() or not good_N.any():
            raise ValueError("weights cannot be fitted to a single class")
        means_C, spreads_C = columns_NC.mean(0), columns_NC.std(0)
        spreads_C[spreads_C == 0] = 1
        x_NC = (columns_NC - means_C) / spreads_C
        weights_N = balance(good_N) if weights_N is None else weights_N
        solution = _logistic(x_NC, np.where(good_N, 1.0, -1.0), weights_N, penalty, monotone)
        return cls(solution[:-1] / spreads_C, means_C, float(solution[-1]))

    @classmethod
    def given(cls, columns_NC: Doubles, weights: Mapping[str, float]) -> QualityModel:
        """Use the weights set in the recipe. Columns that are not in `weights` get weight 0."""
        return cls(np.array([weights.get(name, 0.0) for name in COLUMNS]), columns_NC.mean(0), 0.0)

    @classmethod
    def load(cls, report: Path) -> QualityModel:
        """Load the model from a curate stage's grading.json. Raises UserError if the file contains no model, or if the
        model has different columns."""
        with readable(report):
            text = report.read_text(encoding="utf-8")
        try:
            found = json.loads(text)["quality"]
            named = found["columns"]
            weights, means = ([column[key] for column in named.values()] for key in ("weight", "mean"))
            intercept = float(found["intercept"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{report}: contains no quality model; use the grading.json of a curate stage") from error
        if tuple(named) != COLUMNS:
            raise UserError(f"{report}: the quality model uses different tags; rerun the curate stage that wrote it")
        return cls(np.array(weights, np.float64), np.array(means, np.float64), intercept)

    def centred(self, columns_NC: Doubles) -> QualityModel:
        """Return a model with the same values whose terms are relative to the average of the given documents."""
        means_C = columns_NC.mean(0)
        return QualityModel(self.weights_C, means_C, self.intercept + float(self.weights_C @ (means_C - self.means_C)))

    def contributions(self, columns_NC: Doubles) -> Doubles:
        """Return the (N, C) terms of the sum."""
        return self.weights_C * (columns_NC - self.means_C)

    def values(self, columns_NC: Doubles) -> Doubles:
        """Return the (N,) values."""
        return self.intercept + self.contributions(columns_NC).sum(1)

    def values_of_grades(self, grades_NT: npt.NDArray[np.int8]) -> Doubles:
        """Return the (N,) values of texts that were not compared with seeds. Their similarity is set to the pool's
        average."""
        return self.values(columns(grades_NT, np.full(len(grades_NT), self.means_C[-1])))

    def as_dict(self) -> dict[str, object]:
        """Return everything that determines a value, in a form for JSON."""
        return {
            "intercept": self.intercept,
            "columns": {
                name: {"weight": weight, "mean": mean}
                for name, weight, mean in zip(COLUMNS, self.weights_C.tolist(), self.means_C.tolist(), strict=True)
            },
        }


def columns(grades_NT: npt.NDArray[np.int8], similarity_N: Floats | Doubles) -> Doubles:
    """Return the (N, C) columns: grades as fractions of the highest grade, and similarity."""
    return np.hstack([grades_NT / HIGHEST, similarity_N[:, None].astype(np.float64)])


def explanation(contributions_C: Doubles, column_C: Doubles) -> str:
    """Format the largest terms of a document's value: `correctness 2 (-1.31), prose 0 (-0.40), similarity 0.52
    (+0.33)`."""
    order = sorted(range(len(COLUMNS)), key=lambda c: (-abs(contributions_C[c]), c))[:_SHOWN]
    return ", ".join(f"{COLUMNS[c]} {_shown(c, column_C[c])} ({contributions_C[c]:+.2f})" for c in order)


def _shown(column: int, value: float) -> str:
    return f"{value:.2f}" if COLUMNS[column] == SIMILARITY else str(round(value * HIGHEST))


def by_budget(
    values_N: Doubles,
    tokens_N: npt.NDArray[np.int64],
    hq_tokens: int,
    mq_tokens: int | None,
    passes_N: npt.NDArray[np.bool_],
) -> list[str]:
    """Return `hq`, `mq` or `OVER_BUDGET` for each document. Documents fill the HQ budget and then the MQ budget, in
    descending order of value.

    The document that crosses the limit of a budget is still assigned to that budget. If `mq_tokens` is None, all
    documents beyond HQ are MQ. Documents that are False in `passes_N` are rejected and use no budget. Ties are broken
    by document order.
    """
    found = [OVER_BUDGET] * len(values_N)
    used = 0
    limits = {"hq": hq_tokens, "mq": float("inf") if mq_tokens is None else hq_tokens + mq_tokens}
    for i in np.lexsort((np.arange(len(values_N)), -values_N)):
        if passes_N[i]:
            found[i] = next((quality for quality, limit in limits.items() if used < limit), OVER_BUDGET)
            used += int(tokens_N[i])
    return found


def balance(good_N: npt.NDArray[np.bool_]) -> Doubles:
    """Return sample weights that sum to 1: half for the good documents and half for the others."""
    return np.where(good_N, 0.5 / max(int(good_N.sum()), 1), 0.5 / max(int((~good_N).sum()), 1))


def auc(scores_N: Doubles, good_N: npt.NDArray[np.bool_], weights_N: Doubles | None = None) -> float:
    """Return the probability that a good document scores above a document that is not good. Both are drawn according to
    their weights, and ties count half."""
    weights_N = np.ones(len(good_N)) if weights_N is None else weights_N
    _, place_N = np.unique(scores_N, return_inverse=True)
    good = np.bincount(place_N, weights_N * good_N)
    other = np.bincount(place_N, weights_N * ~good_N)
    below = np.cumsum(other) - other
    return float((good * (below + other / 2)).sum() / (good.sum() * other.sum()))


def importance(
    model: QualityModel, columns_NC: Doubles, good_N: npt.NDArray[np.bool_], weights_N: Doubles, seed: int
) -> dict[str, float]:
    """Compute the permutation importance (Breiman 2001): the decrease of the AUC (weighted as in the fit) when columns
    are shuffled across documents. The content tags are shuffled together, the format tags are shuffled together, and
    each column is shuffled alone."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {
        kind: [c for c, tag in enumerate(TAGS) if tag.kind == kind] for kind in ("content", "format")
    } | {name: [c] for c, name in enumerate(COLUMNS)}
    whole = auc(model.values(columns_NC), good_N, weights_N)
    found = {}
    for name, members in groups.items():
        falls = []
        for _ in range(_REPEATS):
            shuffled = columns_NC.copy()
            shuffled[:, members] = columns_NC[rng.permutation(len(columns_NC))][:, members]
            falls.append(whole - auc(model.values(shuffled), good_N, weights_N))
        found[name] = float(np.mean(falls))
    return found


def _logistic(x_NC: Doubles, sign_N: Doubles, weights_N: Doubles, penalty: float, monotone: bool) -> Doubles:
    """Return the weights, followed by the intercept, that minimise
    ½ · penalty · |w|² + Σ weightᵢ · log(1 + exp(−signᵢ · valueᵢ))."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise UserError(
            "grading needs scipy; run pip install 'thinkling[curate]', or replace grading with quality"
        ) from error

    def objective(point: Doubles) -> tuple[float, Doubles]:
        margins_N = sign_N * (x_NC @ point[:-1] + point[-1])
        slopes_N = -weights_N * sign_N / (1 + np.exp(np.clip(margins_N, -50, 50)))
        loss = float(penalty * point[:-1] @ point[:-1] / 2 + weights_N @ np.logaddexp(0, -margins_N))
        return loss, np.append(penalty * point[:-1] + slopes_N @ x_NC, slopes_N.sum())

    n = x_NC.shape[1]
    bounds = [(0.0 if monotone else None, None)] * n + [(None, None)]
    return minimize(objective, np.zeros(n + 1), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
