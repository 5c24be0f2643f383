"""Drops documents that hold a problem on which models will be scored.

Both sides are brought into one form first (`mathtext`), so case, spacing and the ways of writing LaTeX make no
difference. Short problems (strings of symbols, and those of fewer than n words) count as held if all their tokens
stand in the document in a row, at the edges of words. Longer ones count as held if the document shares n consecutive
words with them (13: GPT-3, arXiv 2005.14165, appendix C); runs that are nearly all numbers and single letters do not
count, since unrelated formulas share them. Boilerplate (`boilerplate`), which is instructions about the answer and
text that many of the problems have, is no evidence either: half of a run has to be the problem's own, and all that is
shared around it has to hold n of the problem's own words, or most of those that it has. Where a quarter of a problem
or more is text that other problems have too, most of its own words are needed in any case. A problem without such a
run counts as a short one.

In scripts without spaces (`scripts`) 26 characters of Chinese or Japanese stand for 13 words, as a word has up to two
characters, and 39 letters of Thai, Lao, Khmer or Burmese, whose words have about three. A run of both kinds is as long
as its words and characters together are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from thinkling.data.boilerplate import SharedRuns, instruction_words
from thinkling.data.documents import Counts, Document, RejectedWriter
from thinkling.data.mathtext import Tokens, tokens
from thinkling.data.ngrams import Hashes, WordHasher, lengths_of, runs, windows
from thinkling.data.scripts import is_unspaced, weights
from thinkling.errors import UserError


class Match(NamedTuple):
    """What was found in a document: the problem's text as it was given, and how."""

    problem: str
    how: str
    """`exact` or `ngram`."""


_WORD, _IDEOGRAPHIC, _ALPHABETIC = 6, 3, 2
"""What a word and a character of each class of scripts without spaces are worth, in sixths of a word."""

_MADE_FROM_A_FORM = 0.25
"""Share of a problem that other problems have too, from which on it counts as made from a form."""
_MOST = 0.55


class _Prose(NamedTuple):
    """A problem that is found by its runs."""

    text: str
    words: list[str]
    own: npt.NDArray[np.int64]
    """What the problem's own words before each place are worth together."""
    needed: int
    """What own words have to be shared, at least."""


class HeldOut:
    """Held-out problems, indexed once. `problems`: the questions' text, symbols and prose alike."""

    def __init__(self, problems: Iterable[str], ngram: int = 13) -> None:
        self._ngram = ngram
        self._hasher = WordHasher()
        self._exact: dict[tuple[str, ...], str] = {}
        self._grams: dict[tuple[str, ...], list[tuple[_Prose, int]]] = {}
        given: dict[tuple[str, ...], str] = {}
        for problem in problems:
            sequence = tuple(tokens(problem).tokens)
            if not _words(sequence):
                raise UserError(f"held-out problem {problem!r} has no letter or digit, so no document can hold it")
            given.setdefault(sequence, problem)
        # Half as long as what is compared, so that a run with shared text on half of it is recognised.
        shared = SharedRuns(self._runs(_words(sequence), (ngram + 1) // 2)[0] for sequence in given)
        for sequence, problem in given.items():
            prose, starts = self._telling_grams(problem, _words(sequence), shared)
            for start, length in starts:
                self._grams.setdefault(tuple(prose.words[start : start + length]), []).append((prose, start))
            if not starts:
                self._exact[sequence] = problem
        # A sequence is looked up where its first token stands, by each length that a problem with this token has.
        lengths: dict[str, set[int]] = {}
        for sequence in self._exact:
            lengths.setdefault(sequence[0], set()).add(len(sequence))
        self._lengths = {token: sorted(found) for token, found in lengths.items()}
        self._gram_hashes = np.unique(
            np.array([windows(self._hasher(gram), len(gram))[0] for gram in self._grams], np.uint64)
        )

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

    def _runs(self, words: list[str], n: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """Hash and length of the run of n words, or what is worth as much, from each word on; length 0 where the rest
        is shorter."""
        lengths = lengths_of(_worth(words), _WORD * n)
        return runs(self._hasher(words), lengths), lengths

    def _telling_grams(self, text: str, words: list[str], shared: SharedRuns) -> tuple[_Prose, list[tuple[int, int]]]:
        """A problem, with place and length of the runs of n words of which at least half are words of two letters and
        more, and at least half is the problem's own."""
        worth, needed = _worth(words), _WORD * self._ngram
        common = shared.covered(*self._runs(words, (self._ngram + 1) // 2))
        own = ~(common | instruction_words(words))
        telling = np.array([word[0].isalpha() and (len(word) > 1 or is_unspaced(word)) for word in words], bool)
        own_before, telling_before = _sums(worth * own), _sums(worth * telling)
        lengths = lengths_of(worth, needed)
        found = [
            (int(i), int(lengths[i]))
            for i in np.flatnonzero(lengths)
            if 2 * min(before[i + lengths[i]] - before[i] for before in (own_before, telling_before)) >= needed
        ]
        # Of a problem made from a form most of its own words are needed: those of two problems are alike by chance.
        most = int(_MOST * own_before[-1])
        made = (worth * common).sum() >= _MADE_FROM_A_FORM * worth.sum()
        return _Prose(text, words, own_before, most if made else min(needed, most)), found

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
        hashes, lengths = self._runs(words, self._ngram)
        # np.isin would sort all the grams again for every document.
        nearest = np.searchsorted(self._gram_hashes[:-1], hashes)
        for i in np.flatnonzero((self._gram_hashes[nearest] == hashes) & (lengths > 0)):
            for prose, start in self._grams.get(tuple(words[i : i + lengths[i]]), ()):
                if _shared_worth(words, int(i), prose, start) >= prose.needed:
                    return prose.text
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


def _shared_worth(words: list[str], at: int, prose: _Prose, start: int) -> int:
    """What the problem's own words are worth in all that stands alike around a place of the document and of the
    problem."""
    first, end, theirs = start, start, prose.words
    while first and at > start - first and words[at - (start - first) - 1] == theirs[first - 1]:
        first -= 1
    while end < len(theirs) and at + end - start < len(words) and words[at + end - start] == theirs[end]:
        end += 1
    return int(prose.own[end] - prose.own[first])


def _sums(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum of the values before each place, and of all."""
    return np.concatenate(([0], np.cumsum(values)))


def _worth(words: list[str]) -> npt.NDArray[np.int64]:
    return weights(words, word=_WORD, ideographic=_IDEOGRAPHIC, alphabetic=_ALPHABETIC)
