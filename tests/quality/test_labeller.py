"""The labeller: agreement as sklearn counts it, grades that follow the annotation, honest held-out figures."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.metrics import cohen_kappa_score

from tests.quality.texts import advertisement, prose
from thinkling.errors import UserError
from thinkling.quality.features import FeatureSpace
from thinkling.quality.labeller import Annotated, Heads, Labeller, agreement, as_array, weighted_kappa
from thinkling.quality.tags import NAMES

GRADES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50)


@given(GRADES)
def test_kappa_is_sklearns(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    ours = weighted_kappa(a, b)
    if ours is None:
        assert len(set(a) | set(b)) == 1
    else:
        assert ours == pytest.approx(cohen_kappa_score(a, b, labels=range(10), weights="quadratic"))


def linear(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of five columns, and grades of which tag 0 follows column 0 and tag 1 is known for a third of the rows."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-1, 1, (n, 5)).astype(np.float32)
    grades = np.full((n, len(NAMES)), np.nan)
    grades[:, 0] = np.clip(np.round(4.5 + 4.5 * rows[:, 0]), 0, 9)
    grades[::3, 1] = grades[::3, 0]
    return rows, grades


def test_heads_follow_the_grades_and_leave_gaps_out() -> None:
    heads = Heads.fit(*linear(600, 0), ridge=0.1)
    rows, truth = linear(200, 1)
    found = heads.grades(rows)
    by_tag = agreement(truth, found)
    assert set(by_tag) == set(NAMES[:2])
    assert (by_tag[NAMES[0]].kappa or 0) > 0.95
    assert by_tag[NAMES[1]].n == 67
    assert (found[:, 0] - found[:, 1]).max() <= 1
    assert not found[:, 2:].any()  # nobody annotated these
    assert found.dtype == np.int8


def test_grades_are_spread_as_the_annotated_ones_are() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 4)).astype(np.float32)
    grades = np.full((3000, len(NAMES)), np.nan)
    grades[:, 0] = np.clip(np.round(5 + rows[:, 0] + rng.normal(size=3000)), 0, 9)  # half of it is noise
    found = Heads.fit(rows, grades, ridge=1.0).grades(rows)[:, 0]
    assert found.mean() == pytest.approx(grades[:, 0].mean(), abs=0.05)
    assert found.std() == pytest.approx(grades[:, 0].std(), abs=0.05)


def test_each_tag_is_fitted_to_the_rows_that_have_a_grade_for_it() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 5)).astype(np.float32)
    grades = rng.integers(0, 10, (80, len(NAMES))).astype(float)
    grades[rng.uniform(size=grades.shape) < 0.2] = np.nan
    together = Heads.fit(rows, grades, 0.5).weights_FT
    for tag in range(len(NAMES)):
        alone = np.full_like(grades, np.nan)
        alone[:, tag] = grades[:, tag]
        assert together[:, tag] == pytest.approx(Heads.fit(rows, alone, 0.5).weights_FT[:, tag])


def test_columns_that_repeat_one_another_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    column = rng.uniform(-0.5, 0.5, (3000, 1))
    rows = np.hstack([np.tile(column, (1, 300)), np.eye(5)[rng.integers(5, size=3000)]]).astype(np.float32)
    grades = np.full((3000, len(NAMES)), np.nan)
    grades[:, 0] = np.round(4.5 + 9 * column[:, 0])
    assert agreement(grades, Heads.fit(rows, grades, 0.3).grades(rows))[NAMES[0]].mae < 0.1


def test_unseen_grades_come_from_heads_that_saw_no_form_of_the_text() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(20, 60)), 2, axis=0).astype(np.float32)  # enough to learn by heart
    grades = np.full((40, len(NAMES)), np.nan)
    grades[:, 0] = np.repeat(rng.integers(0, 10, 20), 2)
    examples = Annotated(rows, grades, ["", "cut"] * 20, np.repeat(np.arange(20), 2).tolist())
    seen = examples.fit(np.ones(40, np.bool_), 0.01).grades(rows)[:, 0]
    wanted = grades[:, 0].astype(np.int64)
    assert (weighted_kappa(seen.astype(np.int64), wanted) or 0) > 0.9
    unseen = examples.unseen_grades(0.01)[:, 0]
    assert abs(weighted_kappa(unseen.astype(np.int64), wanted) or 0) < 0.5


def test_saved_and_loaded_it_grades_alike(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [prose(rng) for _ in range(20)] + [advertisement(rng) for _ in range(20)]
    space = FeatureSpace.fit(texts, 6, seed=0)
    features = space.features(texts)
    grades = as_array([{"impartial": 9 if i < 20 else 0, "prose": 7 if i < 20 else 1} for i in range(40)])
    labeller = Labeller(space, Heads.fit(space.rows(features), grades, ridge=1.0))
    labeller.save(tmp_path / "labeller")
    again = Labeller.load(tmp_path / "labeller")
    found = again.grade(again.space.features(texts))
    np.testing.assert_array_equal(found, labeller.grade(features))
    column = NAMES.index("impartial")
    assert found[:20, column].min() == 9
    assert found[20:, column].max() == 0


def test_broken_or_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labeller\.json"):
        Labeller.load(tmp_path)
    (tmp_path / "labeller.json").write_text('{"format": 1, "tags": ["beauty"]}')
    with pytest.raises(UserError, match="different tags"):
        Labeller.load(tmp_path)


def test_a_file_with_other_arrays_is_named(tmp_path: Path) -> None:
    (tmp_path / "labeller.json").write_text(json.dumps({"format": 1, "tags": list(NAMES)}))
    save_file({"idf_W": np.ones(3, np.float32)}, tmp_path / "labeller.safetensors")
    with pytest.raises(UserError, match=r"labeller\.safetensors: does not contain the arrays of a labeller"):
        Labeller.load(tmp_path)


def test_held_out_agreement_is_of_heads_that_never_saw_the_kind() -> None:
    """Column 0 betrays damage of kind a, column 1 that of kind b: who never saw b cannot know what column 1 means."""
    rows, grades, kinds, texts = [], [], [], []
    for text in range(120):
        for kind in ("", "a", "b"):
            rows.append([kind == "a", kind == "b", text % 7 / 7])
            grades.append({"correctness": 0 if kind else 9})
            kinds.append(kind)
            texts.append(text)
    annotated = Annotated(np.array(rows, np.float32), as_array(grades), kinds, texts)
    found = annotated.held_out_agreement(ridge=0.01)
    assert set(found) == {"a", "b", "all"}
    for kind in ("a", "b"):
        assert found[kind]["correctness"].n == 80  # a third of the texts, sound and damaged
        assert found[kind]["correctness"].kappa == pytest.approx(0, abs=0.2)
    everything = annotated.fit(np.ones(len(kinds), bool), 0.01).grades(annotated.rows_NF)
    assert agreement(annotated.grades_NT, everything)["correctness"].kappa == pytest.approx(1)
