"""Splits text before BPE. Each match of a pattern is a piece, and no token crosses the boundary of a piece."""

from __future__ import annotations

from typing import Literal

from thinkling.plugins import Registry

Digits = Literal["single", "groups"]

PATTERNS = Registry("pre-split", "thinkling.pre_splits", {"gpt4": "thinkling.data.pre_split:gpt4"})
"""Name → function that returns the pattern for a value of `digits`, in the syntax of the tokenizers library
(Oniguruma)."""


def gpt4(digits: Digits | None) -> str:
    """Returns the pattern of GPT-4's tokenizer (cl100k_base, github.com/openai/tiktoken).

    The pieces are contractions, words with a preceding space or mark, numbers, runs of marks, line breaks and white
    space. If `digits` is `single` (the default), every digit is a separate piece, as in Qwen and Llama 2, which helps
    arithmetic. If it is `groups`, pieces have up to three digits, as in GPT-4 and Llama 3.
    """
    number = r"\p{N}{1,3}" if digits == "groups" else r"\p{N}"
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + number
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def pattern(name: str, digits: Digits | None) -> str:
    """Returns the pattern registered under a name.

    Raises UserError if the name is unknown, and ValueError if the pattern does not support `digits`.
    """
    return PATTERNS.resolve(name)(digits)
