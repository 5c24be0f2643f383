"""Templates of questions and answers: `{name}` is replaced, and every other brace is kept, as LaTeX needs it.

`{question}\\nPut the final answer in \\boxed{}.` and `\\boxed{{answer}}` (a box around the answer) work as written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

_NAME = re.compile(r"\{([A-Za-z_]\w*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+$")


def names(template: str) -> set[str]:
    """The names that a template fills in. Braces of a LaTeX command, as in `\\text{cm}`, are not names.

    Raises ValueError if a brace is ambiguous, as in `\\boxed{answer}`."""
    return {match[1] for match in _slots(template)}


def _slots(template: str) -> Iterator[re.Match[str]]:
    for match in _NAME.finditer(template):
        before, ours = template[: match.start()], match[1] in ("question", "answer")
        command = _COMMAND.search(before)
        if command and ours:
            raise ValueError(_both(command[0], match[1]))
        if ours or not (command or before.endswith(("}", "^", "_"))):
            yield match


def _both(command: str, name: str) -> str:
    if command == "\\n":
        return f"it has a backslash and an n before {{{name}}}; in YAML a newline is written as \\n in double quotes"
    wanted = f"{command}{{{{{name}}}}}"
    return f"{command}{{{name}}} is a LaTeX command around a word; write {wanted} for one around the {name}"


def check(template: str, needed: str, known: Collection[str] | None = None) -> None:
    """Raises ValueError if a template lacks `{needed}` or has a name not in `known` (None allows any)."""
    found = names(template)
    if needed not in found:
        raise ValueError(f"it has no {{{needed}}}; put it where the {needed} belongs")
    if known is not None and (unknown := sorted(found - set(known))):
        raise ValueError(f"{{{unknown[0]}}} is unknown; known are {', '.join(f'{{{name}}}' for name in sorted(known))}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its names replaced, once each: braces in a value are kept."""
    filled, at = "", 0
    for match in _slots(template):
        filled += template[at : match.start()] + values[match[1]]
        at = match.end()
    return filled + template[at:]
