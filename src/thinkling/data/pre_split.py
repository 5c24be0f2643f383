"""How text is split before BPE: each match of a pattern is a piece, and no token crosses the edge of a piece."""

from __future__ import annotations

from typing import Literal

from thinkling.plugins import Registry

Digits = Literal["single", "groups"]

PATTERNS = Registry("pre-split", "thinkling.pre_splits", {"gpt4": "thinkling.data.pre_split:gpt4"})
"""Name → function from `digits` to the pattern, in the syntax of the tokenizers library (Oniguruma)."""


def gpt4(digits: Digits | None) -> str:
    """The pattern of GPT-4's tokenizer (cl100k_base, github.com/openai/tiktoken): contractions, words with a preceding
    space or mark, numbers, runs of marks, line breaks, white space.

    `digits`: `single` (default) makes every digit its own piece, as in Qwen and Llama 2, which helps arithmetic;
    `groups` makes pieces of up to three digits, as in GPT-4 and Llama 3.
    """
    number = r"\p{N}{1,3}" if digits == "groups" else r"\p{N}"
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + number
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def pattern(name: str, digits: Digits | None) -> str:
    """The pattern registered under a name. Raises UserError if unknown, ValueError if it does not take `digits`."""
    return PATTERNS.resolve(name)(digits)
