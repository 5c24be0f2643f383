"""Human-readable loss masks: spans.jsonl, and the text that `thinkling tokens` prints."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thinkling.data.atomic import replacing
from thinkling.data.tokenizer import Tokenizer
from thinkling.seeds import derive
from thinkling.stages.sft.fitting import Fitted

FILE = "spans.jsonl"
N_SAMPLES = 20
_LONGEST_CHARACTER = 4
"""Maximum number of bytes, and therefore of tokens, in a UTF-8 character."""


class TextPiece(NamedTuple):
    """Text of one token, or of several tokens that together form a character."""

    text: str
    loss: bool


def pieces(tokenizer: Tokenizer, ids: Sequence[int], loss: Sequence[bool]) -> Iterator[TextPiece]:
    """Yields the text of each token in turn, and whether the token carries loss."""
    start = 0
    for end in range(1, len(ids) + 1):
        text = _text(tokenizer, ids, start, end)
        whole = not text.endswith("\ufffd") or end - start == _LONGEST_CHARACTER
        if whole or end == len(ids) or loss[end] != loss[start]:
            yield TextPiece(text, bool(loss[start]))
            start = end


def segments(tokenizer: Tokenizer, ids: Sequence[int], loss: Sequence[bool]) -> list[dict[str, Any]]:
    """Returns runs of tokens with and without loss as `[{"text", "loss"}]`. The concatenated texts are the
    conversation."""
    return [
        {"text": "".join(piece.text for piece in run), "loss": carries}
        for carries, run in groupby(pieces(tokenizer, ids, loss), lambda piece: piece.loss)
    ]


def _text(tokenizer: Tokenizer, ids: Sequence[int], start: int, end: int) -> str:
    """Returns the text that tokens start:end add to the text before them. They are decoded together with the preceding
    token, because some tokenizers drop a leading space otherwise."""
    if start == 0:
        return tokenizer.decode(ids[:end])
    before = tokenizer.decode(ids[start - 1 : start])
    together = tokenizer.decode(ids[start - 1 : end])
    return together[len(before) :] if together.startswith(before) else tokenizer.decode(ids[start:end])


class SpansSample:
    """A sample of up to 20 conversations: the first conversation of each source (of up to 10 sources), and other
    conversations drawn with the seed."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer, self._seed = tokenizer, seed
        self._first: dict[str, tuple[int, str, Fitted]] = {}
        self._drawn: list[tuple[int, int, str, Fitted]] = []
        self._n = 0

    def offer(self, origin: str, fitted: Fitted) -> None:
        """Offers the next conversation to the sample. Only the conversations with the smallest hashes are kept, so
        memory use is constant."""
        self._n += 1
        if origin not in self._first and len(self._first) < N_SAMPLES // 2:
            self._first[origin] = (self._n, origin, fitted)
            return
        entry = (-derive(self._seed, self._n), self._n, origin, fitted)
        if len(self._drawn) < N_SAMPLES:
            heapq.heappush(self._drawn, entry)
        elif entry[0] > self._drawn[0][0]:
            heapq.heapreplace(self._drawn, entry)

    def write(self, directory: Path) -> None:
        """Writes spans.jsonl, in the order of the conversations."""
        drawn = sorted(self._drawn, key=lambda entry: -entry[0])[: N_SAMPLES - len(self._first)]
        chosen = sorted([*self._first.values(), *(entry[1:] for entry in drawn)], key=lambda entry: entry[0])
        with replacing(directory / FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
            for _, origin, fitted in chosen:
                file.write(json.dumps(self._line(origin, fitted), ensure_ascii=False) + "\n")

    def _line(self, origin: str, fitted: Fitted) -> dict[str, Any]:
        return {
            "id": fitted.conversation.id,
            "source": origin,
            "tokens": len(fitted.ids),
            "loss_tokens": int(np.count_nonzero(fitted.loss[1:])),
            "truncated": fitted.outcome == "overlong_truncated",
            "segments": segments(self._tokenizer, fitted.ids.tolist(), fitted.loss.tolist()),
        }
