"""Drops documents that contain a problem on which models will be evaluated.

Documents and problems are first normalised (`mathtext`), so case, spacing and LaTeX variants make no difference. A
short problem (a string of symbols, or fewer than n words) counts as contained if all its tokens occur consecutively in
the document, at word boundaries. A longer problem counts as contained if the document shares a run of n consecutive
words with it (n is 13 by default, as for GPT-3, arXiv 2005.14165, appendix C). Runs that are almost entirely numbers
and single letters do not count, because unrelated formulas share them.

Boilerplate (see `boilerplate`) is not evidence either. Boilerplate means instructions, and text that many problems have
in common. At least half of a run must be the problem's own words, and the whole shared stretch around the run must
contain n of the problem's own words, or most of them if the problem has fewer. If at least a quarter of a problem is
text that it shares with other problems, the stretch must always contain most of the problem's own words. A problem
without a run that counts is treated as a short problem.

In scripts without spaces (`scripts`), 26 characters of Chinese or Japanese count as 13 words, because a word has up to
two characters. Likewise, 39 letters of Thai, Lao, Khmer or Burmese count as 13 words, because a word has about three
letters. The length of a mixed run is the sum of the weights of its words and characters.
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
    """A held-out problem that was found in a document."""

    problem: str
    """Original text of the problem."""
    how: str
    """Method by which the problem was found: `exact` or `ngram`."""


_WORD, _IDEOGRAPHIC, _ALPHABETIC = 6, 3, 2
"""Weights of a word, and of a character of each class of scripts without spaces, in sixths of a word."""

_MADE_FROM_A_FORM = 0.25
"""Minimum fraction of shared text at which a problem is treated as an instance of a common template."""
_MOST = 0.55


class _Prose(NamedTuple):
    """A problem that is detected by its runs of words."""

    text: str
    words: list[str]
    own: npt.NDArray[np.int64]
    """Total weight of the problem's own words before each position."""
    needed: int
    """Minimum weight of the problem's own words that a document must share."""


class HeldOut:
    """An index of held-out problems, built from the texts of their questions.

    A question can be prose or a string of symbols.
    """

    def __init__(self, problems: Iterable[str], ngram: int = 13) -> None:
        self._ngram = ngram
        self._hasher = WordHasher()
        self._exact: dict[tuple[str, ...], str] = {}
        self._grams: dict[tuple[str, ...], list[tuple[_Prose, int]]] = {}
        given: dict[tuple[str, ...], str] = {}
        for problem in problems:
            sequence = tuple(tokens(problem).tokens)
            if not _words(sequence):
                raise UserError(
                    f"held-out problem {problem!r} has no letter or digit, so documents cannot be searched for it; "
                    "remove the problem"
                )
            given.setdefault(sequence, problem)
        # Runs of half the usual length, so that a run of usual length is recognised if half of it is shared text.
        shared = SharedRuns(self._runs(_words(sequence), (ngram + 1) // 2)[0] for sequence in given)
        for sequence, problem in given.items():
            prose, starts = self._telling_grams(problem, _words(sequence), shared)
            for start, length in starts:
                self._grams.setdefault(tuple(prose.words[start : start + length]), []).append((prose, start))
            if not starts:
                self._exact[sequence] = problem
        # For each first token, the lengths of the problems that start with it: only these sequences are looked up.
        lengths: dict[str, set[int]] = {}
        for sequence in self._exact:
            lengths.setdefault(sequence[0], set()).add(len(sequence))
        self._lengths = {token: sorted(found) for token, found in lengths.items()}
        self._gram_hashes = np.unique(
            np.array([windows(self._hasher(gram), len(gram))[0] for gram in self._grams], np.uint64)
        )

    def find(self, text: str) -> Match | None:
        """Returns the first held-out problem found in the text, or None."""
        if not self._exact and not self._grams:
            return None
        found = tokens(text)
        problem = self._find_exact(found)
        if problem is not None:
            return Match(problem, "exact")
        problem = self._find_gram(found.tokens)
        return None if problem is None else Match(problem, "ngram")

    def _runs(self, words: list[str], n: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """Returns the hash and length of the run of n words, or of equivalent weight, that starts at each word.

        The length is 0 if the rest of the text is shorter than a run.
        """
        lengths = lengths_of(_worth(words), _WORD * n)
        return runs(self._hasher(words), lengths), lengths

    def _telling_grams(self, text: str, words: list[str], shared: SharedRuns) -> tuple[_Prose, list[tuple[int, int]]]:
        """Returns the problem, and the position and length of each of its runs of n words that counts as evidence.

        In such a run, at least half of the words have two or more letters, and at least half are the problem's own.
        """
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
        # An instance of a common template requires most of its own words, because two instances overlap by chance.
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
                # A question that ends in a letter or digit is not contained if a letter or digit follows directly.
                if problem is not None and not (joined[last] and sequence[last][0].isalnum()):
                    return problem
        return None

    def _find_gram(self, sequence: list[str]) -> str | None:
        if not self._grams:
            return None
        words = _words(sequence)
        hashes, lengths = self._runs(words, self._ngram)
        # np.isin would sort all grams again for every document.
        nearest = np.searchsorted(self._gram_hashes[:-1], hashes)
        for i in np.flatnonzero((self._gram_hashes[nearest] == hashes) & (lengths > 0)):
            for prose, start in self._grams.get(tuple(words[i : i + lengths[i]]), ()):
                if _shared_worth(words, int(i), prose, start) >= prose.needed:
                    return prose.text
        return None


def decontaminated(
    documents: Iterable[Document], held_out: HeldOut, counts: Counts, rejected: RejectedWriter
) -> Iterator[Document]:
    """Yields the documents that contain no held-out problem.

    All other documents are written to `rejected`, with the problem that was found.
    """
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
    """Returns the weight of the problem's own words in the identical stretch around a common run.

    `at` and `start` are the positions of the run in the document and in the problem.
    """
    first, end, theirs = start, start, prose.words
    while first and at > start - first and words[at - (start - first) - 1] == theirs[first - 1]:
        first -= 1
    while end < len(theirs) and at + end - start < len(words) and words[at + end - start] == theirs[end]:
        end += 1
    return int(prose.own[end] - prose.own[first])


def _sums(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the sum of the values before each position, followed by the total."""
    return np.concatenate(([0], np.cumsum(values)))


def _worth(words: list[str]) -> npt.NDArray[np.int64]:
    return weights(words, word=_WORD, ideographic=_IDEOGRAPHIC, alphabetic=_ALPHABETIC)
