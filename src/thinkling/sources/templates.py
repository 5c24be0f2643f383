"""Templates for questions and answers. `{name}` is replaced. All other braces are left unchanged, because LaTeX uses
braces.

`{question}\\nPut the final answer in \\boxed{}.` and `\\boxed{{answer}}` (a box around the answer) work as written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

_NAME = re.compile(r"\{([A-Za-z_]\w*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+$")


def names(template: str) -> set[str]:
    """Returns the names that a template replaces. Words in the braces of a LaTeX command, as in `\\text{cm}`, are not
    names.

    Raises ValueError if a brace is ambiguous, as in `\\boxed{answer}`.
    """
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
        return (
            f"the template has a backslash and an n before {{{name}}}; for a newline, put the YAML string in double "
            "quotes"
        )
    wanted = f"{command}{{{{{name}}}}}"
    return f"{command}{{{name}}} is a LaTeX command around the word {name}; write {wanted} to insert the {name}"


def check(template: str, needed: str, known: Collection[str] | None = None) -> None:
    """Raises ValueError if a template lacks `{needed}` or has a name that is not in `known` (None allows any name)."""
    found = names(template)
    if needed not in found:
        raise ValueError(f"the template has no {{{needed}}}; add {{{needed}}} where the {needed} belongs")
    if known is not None and (unknown := sorted(found - set(known))):
        listed = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(f"{{{unknown[0]}}} is not a known name; use {listed}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Returns the template with its names replaced in a single pass, so that braces in a value are kept."""
    filled, at = "", 0
    for match in _slots(template):
        filled += template[at : match.start()] + values[match[1]]
        at = match.end()
    return filled + template[at:]
