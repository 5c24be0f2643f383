"""Drops documents that hold a problem on which models will be scored.

Short problems (puzzle strings, and prose of fewer than n words) count as held if their whole normalised text stands in
the document, at the edges of words. Longer ones count as held if the document shares n consecutive words with them
(13: GPT-3, arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from thinkling.data.dedup import normalise
from thinkling.data.documents import Counts, Document, RejectedWriter
from thinkling.errors import UserError

_WORD = re.compile(r"\w+")
_WORD_START = re.compile(r"\b\w")
_ALNUM_END = re.compile(r"\w\Z")


class Match(NamedTuple):
    """What was found in a document: the problem's text as it was given, and how."""

    problem: str
    how: str
    """`exact` or `ngram`."""


class HeldOut:
    """Held-out problems, indexed once. `problems`: the questions' text, puzzles and prose alike."""

    def __init__(self, problems: Iterable[str], ngram: int = 13) -> None:
        self._ngram = ngram
        self._grams: dict[str, str] = {}
        exact: dict[str, str] = {}
        for problem in problems:
            words = _words(problem)
            for i in range(len(words) - ngram + 1):
                self._grams.setdefault(" ".join(words[i : i + ngram]), problem)
            if len(words) < ngram:
                exact.setdefault(_exact_form(problem), problem)
        self._exact = exact
        # Looked up at every start of a word: by a prefix common in length to all, then by each length with that prefix.
        self._prefix = min(map(len, exact), default=0)
        lengths: dict[str, set[int]] = {}
        for question in exact:
            lengths.setdefault(question[: self._prefix], set()).add(len(question))
        self._lengths = {prefix: sorted(found) for prefix, found in lengths.items()}

    def find(self, text: str) -> Match | None:
        """The first held-out problem in the text, or None."""
        problem = self._find_exact(text)
        if problem is not None:
            return Match(problem, "exact")
        problem = self._find_gram(text)
        return None if problem is None else Match(problem, "ngram")

    def _find_exact(self, text: str) -> str | None:
        if not self._exact:
            return None
        text = normalise(text).casefold()
        for start in (match.start() for match in _WORD_START.finditer(text)):
            for length in self._lengths.get(text[start : start + self._prefix], ()):
                question = text[start : start + length]
                # A question that ends in a letter or digit is not held where the text goes on with another one.
                goes_on = _ALNUM_END.search(question) and _WORD.match(text, start + length)
                if question in self._exact and not goes_on:
                    return self._exact[question]
        return None

    def _find_gram(self, text: str) -> str | None:
        if not self._grams:
            return None
        words = _words(text)
        for i in range(len(words) - self._ngram + 1):
            problem = self._grams.get(" ".join(words[i : i + self._ngram]))
            if problem is not None:
                return problem
        return None


def decontaminated(
    documents: Iterable[Document], held_out: HeldOut, counts: Counts, rejected: RejectedWriter
) -> Iterator[Document]:
    """Passes on the documents that hold no held-out problem; the others go to `rejected` with the problem found."""
    for document in documents:
        counts.received += 1
        match = held_out.find(document["text"])
        if match is None:
            counts.kept += 1
            yield document
        else:
            reason = f"held-out problem ({match.how})"
            counts.reject(reason)
            rejected.write(document, reason, match.problem)


def _words(text: str) -> list[str]:
    return _WORD.findall(normalise(text).casefold())


def _exact_form(problem: str) -> str:
    """Normalised and cut to start at its first letter or digit, since texts are searched at the starts of words."""
    form = normalise(problem).casefold()
    start = _WORD_START.search(form)
    if start is None:
        raise UserError(f"held-out problem {problem!r} has no letter or digit, so no document can be searched for it")
    return form[start.start() :]
