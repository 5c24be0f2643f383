"""A result of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """The result of one check. If any finding has the level `missing`, the exit code of `doctor` is 2."""

    what: str
    level: Level
    detail: str
