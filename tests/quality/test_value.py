"""The quality value: explains itself, finds what was planted, splits by budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.quality.tags import NAMES, TAGS
from thinkling.quality.value import (
    COLUMNS,
    OVER_BUDGET,
    QualityModel,
    auc,
    balance,
    by_budget,
    columns,
    explanation,
    importance,
)


def planted(kind: str, n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Grades at random; a document is good where the tags of one kind are high."""
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 10, (n, len(NAMES))).astype(np.int8)
    effect = grades[:, [i for i, tag in enumerate(TAGS) if tag.kind == kind]].mean(1)
    found = columns(grades, rng.uniform(size=n).astype(np.float32))
    return found, effect + rng.normal(0, 0.3, n) > np.median(effect)


@pytest.mark.parametrize(("kind", "other"), [("content", "format"), ("format", "content")])
def test_the_report_finds_a_planted_effect_in_either_direction(kind: str, other: str) -> None:
    found, good = planted(kind)
    model = QualityModel.fit(found, good, 0.01)
    fall = importance(model, found, good, balance(good), seed=0)
    assert fall[kind] > 0.2
    assert abs(fall[other]) < 0.05
    assert set(fall) == {"content", "format", *COLUMNS}


def test_a_value_is_the_sum_of_its_terms() -> None:
    found, good = planted("content")
    model = QualityModel.fit(found, good, 0.01)
    assert model.values(found) == pytest.approx(model.intercept + model.contributions(found).sum(1))
    described = model.as_dict()
    again = described["intercept"] + sum(  # type: ignore[operator]
        column["weight"] * (found[5, c] - column["mean"])
        for c, column in enumerate(described["columns"].values())  # type: ignore[attr-defined]
    )
    assert again == pytest.approx(model.values(found)[5])
    text = explanation(model.contributions(found)[5], found[5])
    largest = COLUMNS[int(np.abs(model.contributions(found)[5]).argmax())]
    assert text.startswith(largest)
    assert text.count(",") == 2


def test_fitted_weights_are_those_of_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    found, good = planted("content")
    model = QualityModel.fit(found, good, penalty=0.01, monotone=False)
    scaled = (found - found.mean(0)) / found.std(0)
    sklearns = LogisticRegression(C=1 / (0.01 * len(good)), class_weight="balanced", tol=1e-8, max_iter=5000)
    sklearns.fit(scaled, good)
    assert model.values(found) == pytest.approx(sklearns.decision_function(scaled), abs=2e-2)


def test_no_weight_is_negative_unless_asked_for() -> None:
    found, good = planted("content")
    found[:, 0] = 1 - found[:, 0]
    assert QualityModel.fit(found, good, 0.01).weights_C.min() == 0
    assert QualityModel.fit(found, good, 0.01, monotone=False).weights_C[0] < 0


def test_documents_count_by_their_weight() -> None:
    """Column 0 is high for half of the others; whether it pays depends on how much those count."""
    rng = np.random.default_rng(0)
    found = rng.uniform(size=(1000, len(COLUMNS)))
    good = np.arange(1000) < 100
    found[:, 0] = np.where(good, 0.5, np.arange(1000) % 2)
    for size, pays in ((100, False), (1, True)):
        sizes = np.where(found[:, 0] == 1, size, 10) * ~good
        weights = np.where(good, 1 / 200, sizes / (2 * sizes.sum()))
        assert (QualityModel.fit(found, good, 0.01, weights).weights_C[0] > 0) == pays


def test_by_default_good_and_others_count_alike() -> None:
    weights = balance(np.arange(10) < 3)
    assert (weights[:3].sum(), weights[3:].sum()) == pytest.approx((0.5, 0.5))


def test_centred_on_other_documents_the_values_stay_and_the_terms_are_counted_from_their_average() -> None:
    found, good = planted("content")
    model = QualityModel.fit(found, good, 0.01)
    centred = model.centred(found[:50])
    assert centred.values(found) == pytest.approx(model.values(found))
    assert centred.contributions(found[:50]).mean(0) == pytest.approx(np.zeros(len(COLUMNS)), abs=1e-9)


def test_a_signal_of_one_class_is_an_error() -> None:
    found, good = planted("content")
    for signal in (good | True, good & False):
        with pytest.raises(ValueError, match="a single class"):
            QualityModel.fit(found, signal, 0.01)


def test_given_weights_count_alone() -> None:
    found, _ = planted("content")
    model = QualityModel.given(found, {"prose": 2.0, "similarity": 1.0})
    expected = 2 * (found[:, COLUMNS.index("prose")] - found[:, COLUMNS.index("prose")].mean())
    expected += found[:, -1] - found[:, -1].mean()
    assert model.values(found) == pytest.approx(expected)


VALUES = st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 9), st.booleans()), min_size=1, max_size=30)


@given(VALUES, st.integers(1, 60), st.none() | st.integers(1, 60))
def test_budgets_are_filled_from_the_best_down(documents: list[tuple[int, int, bool]], hq: int, mq: int | None) -> None:
    values, tokens, passes = (np.array(column) for column in zip(*documents, strict=True))
    labels = by_budget(values.astype(float), tokens, hq, mq, passes.astype(bool))
    level = {"hq": 2, "mq": 1, OVER_BUDGET: 0}
    ranks = [level[label] for label in labels]
    for i, better in enumerate(values):
        for j, worse in enumerate(values):
            if better > worse and passes[i] and passes[j]:
                assert ranks[i] >= ranks[j]
    assert all(rank == 0 for rank, ok in zip(ranks, passes, strict=True) if not ok)
    spent = {name: int(sum(t for t, label in zip(tokens, labels, strict=True) if label == name)) for name in level}
    assert spent["hq"] < hq + 9  # the document that crosses the line belongs to it
    assert mq is None or spent["hq"] + spent["mq"] < hq + mq + 9
    if spent["mq"]:
        assert spent["hq"] >= hq


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 4)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(triples: list[tuple[int, bool, int]]) -> None:
    scores, good, times = (np.array(column) for column in zip(*triples, strict=True))
    if good.all() or not good.any():
        return
    wins = [(a > b) + 0.5 * (a == b) for a in scores[good] for b in scores[~good]]
    assert auc(scores, good) == pytest.approx(np.mean(wins))
    repeated = auc(np.repeat(scores, times), np.repeat(good, times))
    assert auc(scores, good, times.astype(float)) == pytest.approx(repeated)
