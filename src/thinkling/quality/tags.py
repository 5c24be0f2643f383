"""The 20 quality tags, each graded from 0 to 9, with their definitions.

Nanbeige4-3B grades documents on 20 quality dimensions that its report does not list; the tags here are our own choice.
A *content* tag describes what a text says, and a *format* tag describes how the text is written. The report finds that
content tags predict usefulness better than format tags; `value.importance` measures whether this is the case here. 9 is
always the best grade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Kind = Literal["content", "format"]
HIGHEST = 9


class Tag(NamedTuple):
    """One quality dimension."""

    name: str
    """Name of the tag, and of its column in documents.parquet."""
    kind: Kind
    definition: str
    lowest: str
    """Description of a text with grade 0."""
    highest: str
    """Description of a text with grade 9."""


def _content(name: str, definition: str, lowest: str, highest: str) -> Tag:
    return Tag(name, "content", definition, lowest, highest)


def _format(name: str, definition: str, lowest: str, highest: str) -> Tag:
    return Tag(name, "format", definition, lowest, highest)


TAGS: tuple[Tag, ...] = (
    _content(
        "correctness",
        "what can be checked is right: answers, working, syntax, the text's own wording",
        "wrong answer and broken working, or text damaged past use",
        "everything that can be checked holds",
    ),
    _content(
        "reasoning",
        "steps lead to conclusions: working, causes, conditions, consequences",
        "bare assertions or a bare answer",
        "each conclusion stands after the steps that lead to it",
    ),
    _content(
        "completeness",
        "the text begins and ends where its matter does",
        "starts or stops in the middle, with brackets left open",
        "whole: an opening, an end, nothing cut off",
    ),
    _content(
        "coherence",
        "neighbouring parts speak of the same matter, in an order that can be followed",
        "parts have nothing to do with one another, or stand in random order",
        "each part goes on from the one before",
    ),
    _content(
        "explanation",
        "teaches: defines its terms, gives examples, says what things are for",
        "takes everything as known, or has nothing to teach",
        "a reader new to the matter understands it from this text",
    ),
    _content(
        "density",
        "new information a word",
        "filler and repetition",
        "nearly every word adds something",
    ),
    _content(
        "depth",
        "goes into its subject with the subject's own terms",
        "everyday small talk",
        "terms and details of a specialist",
    ),
    _content(
        "specificity",
        "names, numbers, dates, titles instead of generalities",
        "nothing that could be looked up",
        "concrete facts in most sentences",
    ),
    _content(
        "self_contained",
        "can be understood without what it points to: links, pictures, pages before or after",
        "mostly pointers: click here, see above, read more",
        "needs nothing but itself",
    ),
    _content(
        "impartial",
        "informs instead of selling",
        "an advertisement",
        "no praise, no call to buy, no exclamation",
    ),
    _content(
        "privacy",
        "free of personal data: addresses, telephone numbers, accounts",
        "a list of contacts",
        "no personal data",
    ),
    _content(
        "variety",
        "says each thing once",
        "the same lines or phrases over and over",
        "no line and no long phrase twice",
    ),
    _format(
        "prose",
        "running sentences instead of lists, tables, menus",
        "fragments alone",
        "sentences in paragraphs throughout",
    ),
    _format(
        "language",
        "words in the proportions of written language",
        "keywords or symbols without grammar",
        "grammar words where a writer puts them",
    ),
    _format(
        "spelling",
        "words are words: no typing, scanning or encoding errors in them",
        "hardly a word is intact",
        "no misspelt word",
    ),
    _format(
        "casing",
        "capitals where the language has them",
        "all capitals, or none",
        "sentences and names, and nothing else, are capitalised",
    ),
    _format(
        "punctuation",
        "sentences are ended and clauses parted by marks",
        "no marks, or marks in heaps",
        "every sentence ends in its mark",
    ),
    _format(
        "layout",
        "lines and paragraphs of a sensible length, steady indentation",
        "one wall of text, or a word a line",
        "paragraphs that can be read at a glance",
    ),
    _format(
        "clean_markup",
        "no residue of HTML, encodings, control characters, menus",
        "more residue than text",
        "no residue",
    ),
    _format(
        "length",
        "long enough to say something",
        "a few words",
        "a thousand words and more",
    ),
)

NAMES: tuple[str, ...] = tuple(tag.name for tag in TAGS)

Grades = Mapping[str, int]
"""Tag → grade. Annotators omit tags that they cannot judge."""
