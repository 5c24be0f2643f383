"""A verifier's verdict on a completion.

A verdict is not a reward. Only right and wrong become rewards; unverifiable, timeout and error leave the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """`wrong` includes a completion without a readable answer and judged code past its own limits; `unverifiable`: the
    verifier or the reference cannot decide; `timeout`: the verifier's own deadline; `error`: the verifier failed."""

    RIGHT = "right"
    WRONG = "wrong"
    UNVERIFIABLE = "unverifiable"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """`tier`: the tier that decided; `detail`: one line for people who audit it."""

    outcome: Outcome
    tier: str
    detail: str = ""
