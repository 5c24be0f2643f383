"""Puzzle pages as a source."""

from collections import Counter

import pytest

from thinkling.errors import UserError
from thinkling.puzzles.corpus import pages
from thinkling.puzzles.pages import document
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.sources import PuzzlePagesSource, PuzzlesSource
from thinkling.tasks.problem import Problem

PUZZLES = PuzzlesSource(type="puzzles", families={"sum": {}, "sort": {"max_length": 6}}).bind("puzzles", {})


def source(**fields: object) -> PuzzlePagesSource:
    given = {"type": "puzzle_pages", "puzzles": "puzzles", "pages_per_family": 40} | fields
    return PuzzlePagesSource.model_validate(given).bind("pages", {})


def problems(seed: int, n: int) -> dict[str, Problem]:
    from thinkling.seeds import derive

    return {p.id: p for p in generate(PUZZLES.families, "train", n, derive(seed, "problems", "pages"))}


def test_fractions_are_exact_and_pages_are_what_they_say() -> None:
    made = list(pages(source(noise_fraction=0.25, duplicate_fraction=0.1, answer_only_fraction=0.15), PUZZLES, seed=3))
    originals = [page for page in made if "-copy" not in page.key]
    assert len(made) == 2 * 40
    assert len(originals) == 2 * 36
    known = problems(3, 36)
    kinds = Counter()
    for page in originals:
        problem = known[page.key]
        if page.noisy:
            assert page.text not in (document(problem), document(problem, with_reasoning=False))
            assert page.text.startswith(problem.question + ":")
            kinds["noisy"] += 1
        elif page.text == document(problem):
            kinds["worked"] += 1
        else:
            assert page.text == document(problem, with_reasoning=False)
            kinds["bare"] += 1
    assert kinds == {"noisy": 20, "bare": 12, "worked": 40}


def test_copies_repeat_a_page_word_for_word() -> None:
    made = list(pages(source(duplicate_fraction=0.2), PUZZLES, seed=1))
    texts = {page.key: page.text for page in made if "-copy" not in page.key}
    copies = [page for page in made if "-copy" in page.key]
    assert len(copies) == 16
    assert all(texts[page.key.split("-copy")[0]] == page.text for page in copies)
    assert len({page.key for page in made}) == len(made)


def test_seed_decides_all() -> None:
    wanted = source(noise_fraction=0.3, duplicate_fraction=0.1)
    assert list(pages(wanted, PUZZLES, 5)) == list(pages(wanted, PUZZLES, 5))
    assert list(pages(wanted, PUZZLES, 5)) != list(pages(wanted, PUZZLES, 6))


def test_fractions_above_one_and_unknown_families_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noise_fraction \+ duplicate_fraction \+ answer_only_fraction exceed 1"):
        source(noise_fraction=0.7, answer_only_fraction=0.4)
    with pytest.raises(UserError, match=r"family_weights: 'summ' is not a family"):
        list(pages(source(family_weights={"summ": 2}), PUZZLES, 0))


def test_weights_of_families_are_factors_on_their_pages() -> None:
    family = next(iter(PUZZLES.families))
    assert len(list(pages(source(family_weights={family: 2}), PUZZLES, 0))) == 40 * (len(PUZZLES.families) + 1)
