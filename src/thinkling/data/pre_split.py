"""How text is split before BPE: patterns whose every match is a piece that no token may cross."""

from __future__ import annotations

from typing import Literal

from thinkling.plugins import Registry

Digits = Literal["single", "groups"]

PATTERNS = Registry("pre-split", "thinkling.pre_splits", {"gpt4": "thinkling.data.pre_split:gpt4"})
"""Name → a function of `digits` that gives the pattern, in the syntax of the tokenizers library (Oniguruma)."""


def gpt4(digits: Digits | None) -> str:
    """The pattern of GPT-4's tokenizer (cl100k_base, github.com/openai/tiktoken): contractions, words with the space or
    mark before them, numbers, runs of marks, line breaks, white space.

    `digits`: `single` (default) makes every digit a piece of its own, as in Qwen and Llama 2, which helps arithmetic;
    `groups` makes pieces of up to three, as in GPT-4 and Llama 3.
    """
    number = r"\p{N}{1,3}" if digits == "groups" else r"\p{N}"
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + number
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def pattern(name: str, digits: Digits | None) -> str:
    """The pattern of a name. Raises UserError if there is none, ValueError if it does not take `digits`."""
    return PATTERNS.resolve(name)(digits)
