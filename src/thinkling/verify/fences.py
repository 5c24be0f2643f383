"""Parser for fenced code blocks in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from thinkling.verify.python_text import Code

_MOST_TRIES = 400
"""Maximum number of alternative block ends tried in a text, in addition to those that CommonMark defines."""
_CONTAINER = r"(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t])))*[ \t]*"
_OPENING = re.compile(rf"(?P<before>{_CONTAINER})(?P<fence>`{{3,}}(?=[^`]*$)|~{{3,}})(?P<info>.*)$")
_QUOTE = re.compile(r"[ \t]*>[ \t]?")
_LANGUAGE = re.compile(r"[{\s.]*(?:lang(?:uage)?[=-])?([\w+#.-]*)")
_PYTHON = re.compile(r"(?:i?python|py|sage)(?:[23](?:\.\d+)*)?|[\w-]+\.py|pycon|python-repl|pyi?")
_MAYBE = ("", "code", "text", "txt", "plaintext", "plain", "none")
"""Language labels, other than Python, of code blocks that may contain a Python program."""
_PROMPT = re.compile(r"[ \t]*(?:>>>|\.\.\.)(?: |$)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `text` ends in a newline unless it is empty. `start` and `end` are the lines of the two
    fences."""

    info: str
    text: str
    start: int
    end: int

    @property
    def language(self) -> str:
        found = _LANGUAGE.match(self.info)
        name = (found[1] if found else "").lower()
        return name if name.endswith(".py") or "." not in name or _PYTHON.fullmatch(name) else name.partition(".")[0]

    @property
    def python(self) -> bool:
        return bool(_PYTHON.fullmatch(self.language))

    @property
    def maybe(self) -> bool:
        return self.language in _MAYBE

    @cached_property
    def code(self) -> Code | None:
        found = Code.of(self.text) or Code.of(textwrap.dedent(self.text))
        if found is None and re.search(r"^[ \t]*>>>", self.text, re.MULTILINE):
            found = Code.of(_without_prompts(self.text))
        return found if found is not None and found.tree.body else None


def fenced_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a text whose lines end in \\n (CommonMark 0.31, section 4.5).

    There are three extensions to CommonMark. A fence may be indented as deeply as its list. A Python block that does
    not compile extends to the first later closing fence with which it compiles (a docstring may contain fences). If
    there is no such closing fence, the block ends where the next block opens.
    """
    lines = text.split("\n")
    found: list[Block] = []
    at, tries = 0, _MOST_TRIES
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is None:
            at += 1
            continue
        ends = _ends(lines, at, opening)
        block = _block(lines, at, ends[0], opening)
        if (block.python or block.maybe) and block.code is None:
            for end in ends[1:]:
                if tries <= 0:
                    break
                tries -= 1
                if (longer := _block(lines, at, end, opening)).code is not None:
                    block = longer
                    break
            else:
                block = _until_next_opening(lines, block, opening)
        found.append(block)
        at = block.end + 1
    return found


def _ends(lines: Sequence[str], start: int, opening: re.Match[str]) -> list[int]:
    """Return the lines of the fences that could close a block, starting with the fence that CommonMark chooses. If
    there is no such fence, the result is the end of the text or of the block quote."""
    fence, depth = opening["fence"], _width(opening["before"])
    closing = re.compile(rf"[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    quoted = ">" in opening["before"]
    found: list[int] = []
    for at in range(start + 1, len(lines)):
        line = lines[at]
        if quoted:
            if not _QUOTE.match(line):
                return found or [at]
            line = _unquoted(line, opening["before"].count(">"))
        if closing.match(line) and (quoted or _width(line[: len(line) - len(line.lstrip())]) <= depth + 3):
            found.append(at)
    return found or [len(lines)]


def _block(lines: Sequence[str], start: int, end: int, opening: re.Match[str]) -> Block:
    before = opening["before"]
    quotes, depth = before.count(">"), _width(before.rpartition(">")[2])
    inner = [_unquoted(line, quotes) if quotes else line for line in lines[start + 1 : end]]
    if end >= len(lines) and inner and not inner[-1].strip():
        inner.pop()
    text = "".join(_unindented(line, depth) + "\n" for line in inner)
    return Block(opening["info"].strip(), text, start, end)


def _until_next_opening(lines: Sequence[str], block: Block, opening: re.Match[str]) -> Block:
    for at in range(block.start + 1, min(block.end, len(lines))):
        inner = _OPENING.match(lines[at])
        if inner and inner["fence"][0] == opening["fence"][0] and inner["info"].strip():
            shorter = replace(_block(lines, block.start, at, opening), end=at - 1)
            return shorter if block.python or shorter.code is not None else block
    return block


def _width(before: str) -> int:
    return len(before.expandtabs(4))


def _unquoted(line: str, depth: int) -> str:
    for _ in range(depth):
        line = _QUOTE.sub("", line, count=1)
    return line


def _unindented(line: str, depth: int) -> str:
    """Remove up to `depth` columns of leading whitespace."""
    at = column = 0
    while at < len(line) and column < depth and line[at] in " \t":
        column += 1 if line[at] == " " else 4 - column % 4
        at += 1
    return line[at:]


def _without_prompts(text: str) -> str:
    """Return the input of an interpreter session, without prompts and output."""
    typed = [line[found.end() :] for line in text.splitlines() if (found := _PROMPT.match(line))]
    return "".join(line + "\n" for line in typed)
