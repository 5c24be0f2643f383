"""Scripts written without spaces, in which characters are used in place of words.

There are two classes of such scripts, which differ in how much information one character conveys. In Chinese and
Japanese, a character is most of a word. In Thai, Lao, Khmer, Burmese and Tibetan, a word consists of several characters
(a base letter with its vowel signs and tone marks). Korean is written with spaces, so its words are used.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

IDEOGRAPHIC = "々-〇ぁ-ゖゝ-ゟァ-ヺー-ヿㄅ-ㄯㆠ-ㆿㇰ-ㇿ㐀-䶿一-鿿ꀀ-ꒌ豈-﫿ｦ-ﾟ\U0001b000-\U0001b16f\U00020000-\U000323af"
"""Han, kana, bopomofo and Yi characters, as the contents of a character class in a regular expression."""
_ALPHABETIC = ("\u0e00\u0eff", "\u0f00\u0fff", "\u1000\u109f", "\u1780\u17ff", "\u1950\u19df", "\u1a20\u1aaf",
               "\u1b00\u1b7f", "\ua980\ua9ff", "\uaa60\uaa7f")  # fmt: skip


def _members(categories: str) -> str:
    """Returns the characters of the alphabetic blocks whose Unicode category starts with one of these letters."""
    blocks = (map(chr, range(ord(block[0]), ord(block[1]) + 1)) for block in _ALPHABETIC)
    return "".join(one for block in blocks for one in block if unicodedata.category(one)[0] in categories)


ALPHABETIC = _members("LN")
_MARKS = _members("M")
UNSPACED = IDEOGRAPHIC + ALPHABETIC + _MARKS
"""All characters of scripts without spaces, as the contents of a character class in a regular expression."""
CHARACTER = rf"[{IDEOGRAPHIC}]|[{ALPHABETIC}][{_MARKS}]*"
"""Matches one character with its combining marks."""
_ANY = re.compile(f"[{IDEOGRAPHIC}{ALPHABETIC}]")
_LETTERS = frozenset(ALPHABETIC)
_WORD_OR_CHARACTER = re.compile(rf"{CHARACTER}|[^\W{UNSPACED}](?:[^\s{UNSPACED}]*[^\W{UNSPACED}])?")


def is_unspaced(text: str) -> bool:
    """Returns whether any part of the text is written without spaces."""
    return not text.isascii() and _ANY.search(text) is not None


def words_and_characters(text: str) -> list[str]:
    """Returns the characters of scripts without spaces and the words of other scripts, in text order.

    Words have no punctuation at their ends.
    """
    return _WORD_OR_CHARACTER.findall(text)


def weights(units: Iterable[str], word: int, ideographic: int, alphabetic: int) -> npt.NDArray[np.int64]:
    """Returns the weight of each word or character."""
    worth = (alphabetic if one[0] in _LETTERS else ideographic if _ANY.match(one) else word for one in units)
    return np.fromiter(worth, np.int64)
