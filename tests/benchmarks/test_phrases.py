"""The lint of phrases: what it finds, what it lets pass, and where it looks."""

from __future__ import annotations

import pytest

from benchmarks.house.passages import drawn
from benchmarks.house.phrases import hits, prose_of_page, prose_of_recipe, prose_of_source


@pytest.mark.parametrize(
    "text",
    [
        "16 samples a problem",
        "The file is no model.",
        "It stands in the manifest",
        "at most so many\npairs",
        "this gives one",
    ],
)
def test_a_phrase_is_found(text: str) -> None:
    assert list(hits(text))


@pytest.mark.parametrize(
    "text",
    [
        "16 samples per problem",
        "there is no model",
        "it is no longer read",
        "B stands for batch",
        "it is a file",
        "ends a turn",
    ],
)
def test_idiomatic_english_passes(text: str) -> None:
    assert not list(hits(text))


def test_code_in_a_page_is_not_read() -> None:
    page = "A `gives` here.\n\n```\nsamples a problem\n```\nsamples a problem\n"
    assert [prose_of_page(page).count("\n", 0, at) for at, _, _ in hits(prose_of_page(page))] == [5]


def test_only_comments_of_a_recipe_are_read() -> None:
    assert prose_of_recipe("a: tells  # a comment\nb: tells") == " a comment\n"


def test_comments_docstrings_and_strings_of_a_source_are_read() -> None:
    source = '"""It gives a name."""\n\n# so\n# many\nx = "it tells me"\ny = "tells"\n'
    assert sorted(prose_of_source(source)) == [(1, "It gives a name."), (3, "so\nmany"), (5, "it tells me")]


def test_the_same_passages_are_drawn_again() -> None:
    assert len(drawn()) == 20
    assert drawn() == drawn()
