"""A reasoning mark in the code of an answer is text, and one that a template wrote is not."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.data.reasoning_marks import without_spelled

MARKS = ("<think>", "</think>")
CODE = '```python\ndef answer(text):\n    return text.split("</think>")[-1]\n```'


def split(text: str) -> tuple[str, str]:
    """Reasoning and answer of a reply in one text, by its last mark that closes."""
    cut = re.split(f"({'|'.join(MARKS)})", text)
    pieces = without_spelled([(bool(number % 2), piece) for number, piece in enumerate(cut) if piece], MARKS)
    ends = [at for at, piece in enumerate(pieces) if piece == (True, MARKS[1])]
    if not ends:
        return "", text
    inner = "".join(piece for _, piece in pieces[: ends[-1]]).strip().removeprefix(MARKS[0])
    return inner.strip(), "".join(piece for _, piece in pieces[ends[-1] + 1 :])


@pytest.mark.parametrize(
    "answer",
    [
        CODE,
        CODE.replace('"', "'"),
        '```python\nMARK = re.compile(r"<think>(.*?)</think>")\n```',
        '```python\nDOC = """\n<think>\n</think>\n"""\n```',
        "~~~\n</think>\n~~~",
        "The mark `</think>` ends it.",
        'The mark is "<think>", and it is closed by "</think>".',
    ],
)
def test_a_mark_that_is_only_spelled(answer: str) -> None:
    assert split(answer) == ("", answer)
    assert split(f"<think>\nhm\n</think>\n\n{answer}") == ("hm", f"\n\n{answer}")
    assert split(f"hm</think>{answer}") == ("hm", answer)


@pytest.mark.parametrize(
    ("reply", "reasoning", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("it's a</think>It's b", "it's a", "It's b"),
        ('so "4"</think>"4"', 'so "4"', '"4"'),
        ("<think>I write `</think>` last.</think>b", "I write `</think>` last.", "b"),
        ("<think>```\nx\n```</think>b", "```\nx\n```", "b"),
        ("<think>a</think>b</think>c", "a</think>b", "c"),
        ("b", "", "b"),
        ("<think>a", "", "<think>a"),
    ],
)
def test_a_mark_that_a_template_writes(reply: str, reasoning: str, answer: str) -> None:
    assert split(reply) == (reasoning, answer)


@given(st.lists(st.tuples(st.just(True), st.sampled_from(MARKS)) | st.tuples(st.just(False), st.text(max_size=5))))
def test_no_text_is_lost(pieces: list[tuple[bool, str]]) -> None:
    for inside in (False, True):
        found = without_spelled(pieces, MARKS, inside)
        assert "".join(text for _, text in found) == "".join(text for _, text in pieces)
        assert all(piece[0] or after[0] is not False for piece, after in pairwise(found))
