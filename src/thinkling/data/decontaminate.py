"""Drops documents that hold a problem on which models will be scored.

Both sides are brought into one form first (`mathtext`), so case, spacing and the ways of writing LaTeX make no
difference. Short problems (strings of symbols, and those of fewer than n words) count as held if all their tokens
stand in the document in a row, at the edges of words. Longer ones count as held if the document shares n consecutive
words with them (13: GPT-3, arXiv 2005.14165, appendix C); runs that are nearly all numbers and single letters do not
count, since unrelated formulas share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from thinkling.data.documents import Counts, Document, RejectedWriter
from thinkling.data.mathtext import Tokens, tokens
from thinkling.data.ngrams import WordHasher, windows
from thinkling.errors import UserError


class Match(NamedTuple):
    """What was found in a document: the problem's text as it was given, and how."""

    problem: str
    how: str
    """`exact` or `ngram`."""


class HeldOut:
    """Held-out problems, indexed once. `problems`: the questions' text, symbols and prose alike."""

    def __init__(self, problems: Iterable[str], ngram: int = 13) -> None:
        self._ngram = ngram
        self._hasher = WordHasher()
        self._exact: dict[tuple[str, ...], str] = {}
        grams: dict[tuple[str, ...], str] = {}
        for problem in problems:
            sequence = tuple(tokens(problem).tokens)
            if not _words(sequence):
                raise UserError(f"held-out problem {problem!r} has no letter or digit, so no document can hold it")
            found = self._telling_grams(_words(sequence))
            for gram in found:
                grams.setdefault(gram, problem)
            if not found:
                self._exact.setdefault(sequence, problem)
        # A sequence is looked up where its first token stands, by each length that a problem with this token has.
        lengths: dict[str, set[int]] = {}
        for sequence in self._exact:
            lengths.setdefault(sequence[0], set()).add(len(sequence))
        self._lengths = {token: sorted(found) for token, found in lengths.items()}
        self._grams = grams
        self._gram_hashes = np.unique(np.array([windows(self._hasher(gram), ngram)[0] for gram in grams], np.uint64))

    def find(self, text: str) -> Match | None:
        """The first held-out problem in the text, or None."""
        if not self._exact and not self._grams:
            return None
        found = tokens(text)
        problem = self._find_exact(found)
        if problem is not None:
            return Match(problem, "exact")
        problem = self._find_gram(found.tokens)
        return None if problem is None else Match(problem, "ngram")

    def _telling_grams(self, words: list[str]) -> list[tuple[str, ...]]:
        """The runs of n words of which at least half are words of two letters and more."""
        runs = (tuple(words[i : i + self._ngram]) for i in range(len(words) - self._ngram + 1))
        return [run for run in runs if 2 * sum(len(word) > 1 and word[0].isalpha() for word in run) >= self._ngram]

    def _find_exact(self, found: Tokens) -> str | None:
        sequence, joined = found
        lengths = self._lengths
        for i, token in enumerate(sequence):
            if token not in lengths or (i and joined[i - 1] and token[0].isalnum() and sequence[i - 1][0].isalnum()):
                continue
            for length in lengths[token]:
                last = i + length - 1
                problem = self._exact.get(tuple(sequence[i : last + 1]))
                # A question that ends in a letter or digit is not held where the text goes on with another one.
                if problem is not None and not (joined[last] and sequence[last][0].isalnum()):
                    return problem
        return None

    def _find_gram(self, sequence: list[str]) -> str | None:
        if not self._grams:
            return None
        words = _words(sequence)
        hashes = windows(self._hasher(words), self._ngram)
        # np.isin would sort all the grams again for every document.
        nearest = np.searchsorted(self._gram_hashes[:-1], hashes)
        for i in np.flatnonzero(self._gram_hashes[nearest] == hashes):
            problem = self._grams.get(tuple(words[i : i + self._ngram]))
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


def _words(sequence: Iterable[str]) -> list[str]:
    return [token for token in sequence if token[0].isalnum()]
