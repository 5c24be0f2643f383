"""Puzzle pages as a source."""

from collections import Counter

import pytest

from thinkling.errors import UserError
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.stages.curate.pages import pages
from thinkling.stages.sources import PagesSource, TasksSource
from thinkling.tasks.problem import Problem

TASKS = TasksSource(type="tasks", families={"sum": {}, "sort": {"max_length": 6}})


def source(**fields: object) -> PagesSource:
    return PagesSource.model_validate({"type": "puzzle_pages", "tasks": "puzzles", "pages_per_family": 40} | fields)


def problems(seed: int, n: int) -> dict[str, Problem]:
    from thinkling.seeds import derive

    return {p.id: p for p in generate(TASKS.families, "train", n, derive(seed, "problems", "pages"))}


def test_shares_are_exact_and_pages_are_what_they_say() -> None:
    made = list(pages("pages", source(corrupted=0.25, duplicated=0.1, without_trace=0.15), TASKS, seed=3))
    originals = [page for page in made if "-copy" not in page.key]
    assert len(made) == 2 * 40
    assert len(originals) == 2 * 36
    known = problems(3, 36)
    kinds = Counter()
    for page in originals:
        problem = known[page.key]
        if page.damaged:
            assert page.text not in (document(problem), document(problem, with_trace=False))
            assert page.text.startswith(problem.question + ":")
            kinds["damaged"] += 1
        elif page.text == document(problem):
            kinds["worked"] += 1
        else:
            assert page.text == document(problem, with_trace=False)
            kinds["bare"] += 1
    assert kinds == {"damaged": 20, "bare": 12, "worked": 40}


def test_copies_repeat_a_page_word_for_word() -> None:
    made = list(pages("pages", source(duplicated=0.2), TASKS, seed=1))
    texts = {page.key: page.text for page in made if "-copy" not in page.key}
    copies = [page for page in made if "-copy" in page.key]
    assert len(copies) == 16
    assert all(texts[page.key.split("-copy")[0]] == page.text for page in copies)
    assert len({page.key for page in made}) == len(made)


def test_seed_decides_all() -> None:
    wanted = source(corrupted=0.3, duplicated=0.1)
    assert list(pages("pages", wanted, TASKS, 5)) == list(pages("pages", wanted, TASKS, 5))
    assert list(pages("pages", wanted, TASKS, 5)) != list(pages("pages", wanted, TASKS, 6))


def test_shares_above_one_and_unknown_families_are_refused() -> None:
    with pytest.raises(ValueError, match=r"corrupted \+ duplicated \+ without_trace exceed 1"):
        source(corrupted=0.7, without_trace=0.4)
    with pytest.raises(UserError, match=r"family_weights: 'summ' is no family"):
        list(pages("pages", source(family_weights={"summ": 2}), TASKS, 0))


def test_weights_of_families_are_factors_on_their_pages() -> None:
    family = next(iter(TASKS.families))
    assert len(list(pages("pages", source(family_weights={family: 2}), TASKS, 0))) == 40 * (len(TASKS.families) + 1)
