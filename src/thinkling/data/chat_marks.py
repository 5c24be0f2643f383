"""Marks inside chat text, and tokenization of marked text.

Message content is data, and text written by the template is markup. Message text that spells a special token is fenced
before rendering and encoded as plain characters, so no user, tool or web page can close a turn or open reasoning. Other
marks record where loss begins and ends, and the position of each piece of a message in the rendered text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

# Every mark in rendered text starts with a Unicode noncharacter. LITERAL stands for this noncharacter in a message.
ESC = "\ufdd0"
LITERAL, PLAIN_ON, PLAIN_OFF, LOSS_ON, LOSS_OFF = (f"{ESC}{code}" for code in "01234")
_MARK = re.compile(f"({ESC}[0-4])")
ANCHOR = re.compile(f"{ESC}5(\\d+){ESC}6")
"""Matches the mark of a piece of a message. The mark contains the number of the piece."""


class Encoder(Protocol):
    """The part of the interface of data.tokenizer.Tokenizer that rendering needs."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, markup: bool = False) -> np.ndarray: ...

    def encode_batch(self, texts: Sequence[str], markup: bool | Sequence[bool] = False) -> list[np.ndarray]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@lru_cache(maxsize=8)
def special_spellings(tokenizer: Encoder) -> re.Pattern[str]:
    """Returns a pattern that matches every text that this tokenizer encodes as a special token when markup is enabled.

    The pattern is built by encoding the spelling of every token.
    """
    spelled = sorted({tokenizer.decode([i]) for i in range(tokenizer.vocab_size)} - {""})
    marked, plain = tokenizer.encode_batch(spelled, True), tokenizer.encode_batch(spelled, False)
    special = [s for s, a, b in zip(spelled, marked, plain, strict=True) if not np.array_equal(a, b)]
    return re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)) or r"(?!)")


@lru_cache(maxsize=8)
def written_by_template(spellings: re.Pattern[str]) -> re.Pattern[str]:
    """Returns a pattern that matches special tokens written by the template, but not those spelled in a message."""
    return re.compile(f"(?<!{PLAIN_ON})(?:{spellings.pattern})")


def fence(value: Any, spellings: re.Pattern[str]) -> Any:
    """Returns the value with each spelling of a special token in its strings fenced.

    Keys of tool-call arguments are fenced too. Field names are not fenced, because the template looks them up.
    """
    if isinstance(value, str):
        return spellings.sub(rf"{PLAIN_ON}\g<0>{PLAIN_OFF}", value.replace(ESC, LITERAL))
    if isinstance(value, Mapping):
        return {
            key if key.isidentifier() else fence(key, spellings): fence(inner, spellings)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [fence(inner, spellings) for inner in value]
    return value


def anchor(text: str, number: int, after: str = "") -> str:
    """Returns the text with a numbered mark in the middle of its stripped content, where templates do not split it.

    If `after` is given, only the content after its last occurrence is considered.
    """
    start = text.rfind(after) + len(after) if after and after in text else 0
    core = text[start:].strip()
    start = text.index(core, start)
    middle = start + len(core) // 2
    if middle and text[middle - 1] == ESC:
        middle += 1
    return f"{text[:middle]}{ESC}5{number}{ESC}6{text[middle:]}"


def take_anchors(text: str) -> tuple[str, dict[int, int]]:
    """Returns the text without anchors, and the first position of each anchor.

    An anchor can occur more than once, because a template may repeat a tool's name next to its result.
    """
    places: dict[int, int] = {}
    pieces, length = [], 0
    for i, piece in enumerate(ANCHOR.split(text)):
        if i % 2:
            places.setdefault(int(piece), length)
        else:
            pieces.append(piece)
            length += len(piece)
    return "".join(pieces), places


def without_marks(text: str) -> str:
    """Returns the text without marks."""
    return "".join(ESC if part == LITERAL else part for part in _MARK.split(text) if not _is_mark(part))


def well_fenced(text: str, spellings: re.Pattern[str]) -> bool:
    """Returns whether every fence encloses exactly one spelling of a special token.

    A template that splits a message at one of its own tags separates the two ends of a fence. A tag that the template
    writes between the two ends would then be encoded as text.
    """
    inside = False
    for part in _MARK.split(text):
        if part in (PLAIN_ON, PLAIN_OFF):
            if inside is (part == PLAIN_ON):
                return False
            inside = part == PLAIN_ON
        elif inside and spellings.fullmatch(part) is None:
            return False
    return not inside


def encode_marked(text: str, tokenizer: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids and loss mask of marked text. The text is split where loss begins or ends, so that the tokens are
    the same as in generation."""
    pieces: list[tuple[str, bool, bool]] = []
    plain, loss, gathered = False, False, ""
    for part in _MARK.split(text):
        if not _is_mark(part):
            gathered += ESC if part == LITERAL else part
            continue
        pieces.append((gathered, plain, loss))
        gathered = ""
        if part in (PLAIN_ON, PLAIN_OFF):
            plain = part == PLAIN_ON
        else:
            loss = part == LOSS_ON
    pieces = [piece for piece in [*pieces, (gathered, plain, loss)] if piece[0]]
    ids = [_encode_piece(tokenizer, piece, not plain, first=i == 0) for i, (piece, plain, _) in enumerate(pieces)]
    mask = [np.full(len(part), loss) for part, (_, _, loss) in zip(ids, pieces, strict=True)]
    empty = np.empty(0, dtype=np.int32)
    return np.concatenate([empty, *ids]), np.concatenate([empty.astype(bool), *mask])


def _is_mark(part: str) -> bool:
    return part.startswith(ESC) and part != LITERAL


def _encode_piece(tokenizer: Encoder, piece: str, markup: bool, first: bool) -> np.ndarray:
    """Encodes one piece of a chat.

    A tokenizer that prepends a space to every text (SentencePiece) must not do so inside a chat. Therefore a newline
    followed by the piece is encoded, and the tokens of the newline are removed, as in transformers.
    """
    ids = tokenizer.encode(piece, markup)
    if first or not _prefixes_space(tokenizer):
        return ids
    newline, together = tokenizer.encode("\n", markup), tokenizer.encode("\n" + piece, markup)
    return together[len(newline) :] if np.array_equal(together[: len(newline)], newline) else ids


@lru_cache(maxsize=8)
def _prefixes_space(tokenizer: Encoder) -> bool:
    alone, after = tokenizer.encode("a"), tokenizer.encode("\na")
    return not np.array_equal(after[len(after) - len(alone) :], alone)
