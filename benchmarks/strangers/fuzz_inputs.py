"""Inputs for fuzzing: a few mutated strings, each a pure function of the target's corpus and a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

Input = tuple[str, ...]
"""The strings of one input. Bytes are written as Latin-1, so that any input can be stored as JSON."""
LONGEST = 20_000
"""Maximum length of a string that grows under mutation."""

COMMON = (
    *("", " ", "\n", "\r\n", "\t", "\x00", "\ufeff", "\ufdd0", "\ufdd01", "\u2028", "\u200b", "\ud83d", "😀", "٣", "½"),
    *("0", "-1", "1e999", "9" * 400, "NaN", "Infinity", "null", "true", '"', "'", "\\", "\\n", "\\ud800", "\\u0000"),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "|",
        ",",
        ":",
        ";",
        "=",
        "%",
        "$",
        "#",
        "&",
        "*",
        "-",
        "/",
        "`",
        "~",
        "_",
    ),
)
MARKUP = (
    *("<think>", "</think>", "[THINK]", "[/THINK]", "<|im_end|>", "<|im_start|>assistant\n", "[INST]", "[/INST]"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<start_of_turn>", "<end_of_turn>", "</s>"),
    *("<|endoftext|>", "<|eot_id|>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "```", "```python\n", "~~~\n"),
    *('{"name": "f", "arguments": {}}', '"content"', '"reasoning_content"', '"tool_calls"', '"type": "text"'),
)
MATHS = (
    *(r"\boxed{", r"\frac{", r"\sqrt{", r"\left(", r"\right)", r"\text{", r"\overline{", r"\begin{pmatrix}", r"\\"),
    *(
        r"\end{pmatrix}",
        r"\cup",
        r"\infty",
        r"\pi",
        r"\pm",
        r"\log_",
        r"\cdot",
        r"\%",
        r"^\circ",
        r"^{",
        "_{",
        "!",
        "!!",
    ),
    *("10**10**10", "99999!", "9^9^9^9", "9^{9^{9^{9}}}", "10^{10^{10}}", "x=", "####", "The answer is ", "<answer>"),
    *(
        "</answer>",
        "or",
        "and",
        "1,234",
        "0.1",
        "1/0",
        "0x1F",
        "答案是",
        "故选",
        "元",
        "１２",
        "，",
        "。",
        "√",
        "²",
        "⅓",
        "∞",
    ),
    *(r"\binom{99999}{5000}", r"\sum_{i=1}^{9999999} i", r"\gamma(9999999)", "1e9999999", "0^{-1}", r"\log_{1}{1}"),
)
YAML = (
    *("\n  ", "\n", "- ", ": ", "&a ", "*a", "<<: *a", "!!python/object:os.system", "!!binary ", "!!timestamp ", "? "),
    *(
        "|\n",
        ">\n",
        "%YAML 9\n",
        "---\n",
        "...\n",
        "{a: b}",
        "[1, 2]",
        "~",
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "2026-99-99",
    ),
    *(
        "0o17",
        "1_000",
        "1:30:30",
        "../../x",
        "/etc/passwd",
        "stages",
        "sources",
        "inputs",
        "kind",
        "type",
        "seed",
        "rl",
    ),
    *(
        "steps",
        "lr",
        "path",
        "name",
        "model",
        "tokenizer",
        "!!int x",
        "!!set {a}",
        "@",
        "`",
        "sandbox: none",
        "[[]]: x",
    ),
)
JINJA = (
    *(
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if m %}",
        "{% endif %}",
        "-%}",
    ),
    *(
        "{% generation %}",
        "{% endgeneration %}",
        "{% set x = x + 1 %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ),
    *(
        "| trim",
        "| tojson",
        "| length",
        "| join",
        "| replace('a', 'b')",
        "| int",
        "| list",
        "| map('x')",
        "| indent(3)",
    ),
    *(
        "{% for i in range(99999) %}",
        "* 9999999",
        "** 99999",
        ".split('</think>')",
        "[-1]",
        "[0]",
        ".__class__",
        "loop.",
    ),
    *("raise_exception('x')", "strftime_now('%Y')", "m.content", "m['role']", "bos_token", "namespace(a=1)", "ns.a"),
    *("{% include 'x' %}", "{% extends 'x' %}", "{% break %}", "{% raw %}", "{% endraw %}", "{% set messages = [] %}"),
)


def drawn(corpus: Sequence[Input], words: Sequence[str], rng: random.Random) -> Input:
    """An input from the corpus with a few faults in one or all of its strings. One in forty is a worst case for
    parsers: something repeated thousands of times."""
    parts = list(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        at = rng.randrange(len(parts))
        other = rng.choice(corpus)
        parts[at] = _mutated(parts[at], other[min(at, len(other) - 1)], words, rng)[:LONGEST]
    if rng.random() < 0.025:
        at = rng.randrange(len(parts))
        place = rng.randint(0, len(parts[at]))
        piece = rng.choice(words) or "("
        many = min(rng.choice((70, 1000, 10_000)), 10_000 // len(piece) + 1)
        parts[at] = parts[at][:place] + piece * many + parts[at][place:]
    return tuple(parts)


def _mutated(text: str, other: str, words: Sequence[str], rng: random.Random) -> str:
    size = len(text)
    start = rng.randint(0, size)
    end = min(size, start + int(rng.expovariate(1 / 8)))
    change: Callable[[], str] = rng.choice(
        (
            lambda: text[:start] + rng.choice(words) + text[start:],
            lambda: text[:start] + rng.choice(words) + text[end:],
            lambda: text[:start] + text[end:],
            lambda: text[:start] + text[start:end] * rng.choice((2, 3, 40)) + text[end:],
            lambda: text[:start],
            lambda: text[start:],
            lambda: text[:start] + other[rng.randint(0, len(other)) :],
            lambda: text[:start] + chr(rng.choice((rng.randrange(256), rng.randrange(0x3000)))) + text[end:],
            lambda: text[:start] + text[end:] + text[start:end],
        )
    )
    return change()


def as_bytes(text: str) -> bytes:
    """The bytes of an input: Latin-1 if possible, as a byte mutator leaves it, otherwise UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def minimised(found: Input, fails: Callable[[Input], bool], most: int = 400) -> Input:
    """A smaller input that fails in the same way, found within the given number of attempts."""
    tried = 0
    for at in range(len(found)):
        size = max(1, len(found[at]) // 2)
        while size and tried < most:
            start = 0
            while start < len(found[at]) and tried < most:
                shorter = (*found[:at], found[at][:start] + found[at][start + size :], *found[at + 1 :])
                tried += 1
                if fails(shorter):
                    found = shorter
                else:
                    start += size
            size //= 2
    return found


def strategy(words: Sequence[str], parts: int) -> Any:
    """Inputs generated by hypothesis: any text, mixed with a target's words."""
    from hypothesis import strategies as st

    text = st.lists(st.sampled_from(words) | st.text(max_size=6), max_size=20).map("".join)
    return st.tuples(*[text] * parts)
