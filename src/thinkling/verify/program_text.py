"""Find the program in a reply: in fenced code blocks, parsed by CommonMark's rules, or between lines of prose.

If there are several blocks, the program consists of the blocks that define the names used by the tests, in the order of
the reply. If two blocks define the same name, the later block is used. Code is neither run nor repaired: every line of
the result is a line of the reply.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from thinkling.verify.fences import Block, fenced_blocks
from thinkling.verify.python_text import KNOWN, Code, error_line, is_value

FUTURE = "__future__"
_MOST_BLOCKS = 100
"""Maximum number of blocks examined, counted from the end. Replies with more blocks repeat themselves."""
_MOST_TRIES = 400
"""Maximum number of attempts to compile lines of prose as a program."""
_LONGEST_RUN = 2_000
"""Maximum number of lines in an unfenced program."""
_STARTS = re.compile(
    r"(?:def|class|import|from|async def|@|if|for|while|try|with|[A-Za-z_][\w., \[\]]*[-+*/]?=|#|\"\"\")"
)
_READS_INPUT = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*0")


def needed_names(tests: Sequence[str]) -> frozenset[str]:
    """Return the names that tests use but do not define, so that the program must define them. Tests that do not
    compile are skipped; the error is reported when they are run."""
    whole = Code.of("\n".join(tests))
    codes = [whole] if whole else [code for test in tests if (code := Code.of(test)) is not None]
    used = frozenset[str]().union(*(code.uses for code in codes))
    return used.difference(*(code.defines for code in codes))


def find_program(reply: str, needed: Iterable[str] = ()) -> str | None:
    """Return the program in a reply, or None. `needed`: names that the tests use; empty for a program that is run as a
    script. Code that does not compile is returned if the reply contains no other code, because it is the model's
    answer."""
    text = reply.replace("\r\n", "\n").replace("\r", "\n")
    wanted = frozenset(needed) - KNOWN
    whole = Code.of(text)
    if whole is not None and whole.tree.body:
        return text
    blocks = fenced_blocks(text)[-_MOST_BLOCKS:]
    python = [block.code for block in blocks if block.python and block.code is not None]
    if wanted or not python:
        codes = [block.code for block in blocks if block.code is not None and _counts(block, block.code, wanted)]
    else:
        codes = python
    if codes and (not wanted or _names(codes) & wanted):
        return _choose(codes, wanted)
    broken = [block.text for block in blocks if block.python and block.code is None and block.text.strip()]
    meant = [text for text in broken if any(re.search(_head_of(n), text, re.MULTILINE) for n in wanted)]
    if meant or (broken and not codes):
        return (meant or broken)[-1]
    runs = _runs(_outside(text, blocks))
    if runs and (not codes or _names(runs) & wanted):
        return _choose(runs, wanted)
    codes = codes or [block.code for block in blocks if block.maybe and block.code is not None]
    if codes:
        return _choose(codes, wanted)
    return text if any(re.search(_head_of(name), text, re.MULTILINE) for name in wanted) else None


def with_setup(setup: str, program: str) -> str:
    """Prepend setup code to a program. The program's `__future__` imports are moved to the front."""
    if not setup.strip():
        return program
    code = Code.of(program)
    found = [] if code is None else [n for n in code.tree.body if isinstance(n, ast.ImportFrom) and n.module == FUTURE]
    lines = program.split("\n")
    for node in found:
        for at in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[at] = ""
    return "\n".join([*map(ast.unparse, found), setup.rstrip(), "", *lines])


def _counts(block: Block, code: Code, wanted: frozenset[str]) -> bool:
    """Whether a block may be part of the program. A block that is not labelled Python must contain more than bare
    values."""
    return block.python or (code.acts and (block.maybe or bool(code.defines & wanted)))


def _head_of(name: str) -> str:
    """Return a pattern for the first line of the definition of a function or class."""
    return rf"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b"


def _names(codes: Sequence[Code]) -> frozenset[str]:
    return frozenset[str]().union(*(code.defines for code in codes))


def _choose(codes: Sequence[Code], wanted: frozenset[str]) -> str:
    """Build the program from at least one piece of code that compiles."""
    reached = wanted & _names(codes)
    if reached:  # names that no piece defines do not help to choose
        return _complete([], codes, reached)
    acting = [code for code in codes if code.acts] or codes
    reading = [] if wanted else [code for code in acting if _READS_INPUT.search(code.text)]
    last = (reading or [code for code in acting if code.constructs] or acting)[-1]
    return _complete([last], codes, last.uses)


def _complete(chosen: list[Code], codes: Sequence[Code], missing: Iterable[str]) -> str:
    """Add, for each missing name, the last piece that defines it, and join all pieces in the order of the reply."""
    ahead = sorted(set(missing).difference(*(code.defines for code in chosen)))
    asked: set[str] = set()
    while ahead:
        name = ahead.pop()
        asked.add(name)
        defining = [code for code in codes if name in code.defines]
        source = next((c for c in reversed(defining) if not c.imports_from_elsewhere(name)), None)
        if source is None and defining:
            source = defining[-1]
        if source is None or any(source is one for one in chosen):
            continue
        chosen = [*chosen, source]
        ahead = sorted(source.uses.union(ahead) - asked.union(*(code.defines for code in chosen)))
    together = [code.text if code.text.endswith("\n") else code.text + "\n" for code in _in_order(chosen, codes)]
    if len(together) > 1 and Code.of("\n".join(together)) is None:  # a `__future__` import is not at the start
        return together[-1]
    return "\n".join(together)


def _in_order(chosen: Sequence[Code], codes: Sequence[Code]) -> list[Code]:
    return [code for code in codes if any(code is one for one in chosen)]


def _outside(text: str, blocks: Sequence[Block]) -> list[str]:
    """Return the lines of a text, replacing the lines of fenced blocks with empty lines."""
    inside = {at for block in blocks for at in range(block.start, block.end + 1)}
    return ["" if at in inside else line for at, line in enumerate(text.split("\n"))]


def _runs(lines: Sequence[str]) -> list[Code]:
    """Return the longest runs of lines that are outside fenced blocks, compile, and contain a definition or an
    import."""
    found: list[Code] = []
    tries, start = _MOST_TRIES, 0
    while start < len(lines) and tries > 0:
        if not _STARTS.match(lines[start]):
            start += 1
            continue
        end, tries = _run_end(lines, start, tries)
        run = Code.of("\n".join(lines[start:end]).rstrip() + "\n") if end > start else None
        run = run and _without_last_values(run)
        if run is not None and run.constructs:
            found.append(run)
        start = max(end, start + 1)
    return found


def _without_last_values(code: Code) -> Code | None:
    """Drop bare values at the end of the code, because a word of prose after the program also compiles."""
    body = list(code.tree.body)
    while body and is_value(body[-1]):
        body.pop()
    if len(body) == len(code.tree.body):
        return code
    last = body[-1].end_lineno if body else 0
    return Code.of("".join(code.text.splitlines(True)[:last]))


def _run_end(lines: Sequence[str], start: int, tries: int) -> tuple[int, int]:
    """Return the end of the longest run from `start` that compiles (`start` if there is none), and the remaining
    tries."""
    end = min(len(lines), start + _LONGEST_RUN)
    while end > start and tries > 0:
        tries -= 1
        line = error_line("\n".join(lines[start:end]) + "\n")
        if line is None:
            return end, tries
        end = min(end - 1, start + line - 1)  # adding lines after the error does not fix it
    return start, tries
