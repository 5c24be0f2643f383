"""Names that a recipe gives and that become parts of paths: stages, sources, task sets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
"""Characters: a file's name has 255 bytes at most, and suffixes are added."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def checked_name(name: str) -> str:
    """The name. Raises ValueError if it could leave the folder of the run, or does not fit into a file's name."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:LONGEST]!r} is not a name; take up to {LONGEST} letters, digits and - _ . of ASCII, "
            "the first a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(checked_name)]
