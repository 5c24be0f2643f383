"""Names in a recipe that become parts of paths: stages, sources, task sets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
"""Maximum number of characters in a name. A file name can have at most 255 bytes, and suffixes are appended to the
name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def checked_name(name: str) -> str:
    """Return the name unchanged. Raises ValueError if the name could refer to a path outside the run's folder, or is
    too long for a file name."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:LONGEST]!r} is not a valid name; use up to {LONGEST} ASCII letters, digits and - _ . , "
            "starting with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(checked_name)]
