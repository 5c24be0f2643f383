"""The verdict of a verifier on a completion.

A verdict is not a reward. Only the outcomes right and wrong become rewards; samples with the outcome unverifiable,
timeout or error are removed from their group.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a verdict. `wrong` includes completions without an answer that can be parsed, and programs that
    exceed their limits; `unverifiable`: the verifier cannot decide, for example because of an unusable reference;
    `timeout`: the verifier exceeded its own deadline; `error`: the verifier failed."""

    RIGHT = "right"
    WRONG = "wrong"
    UNVERIFIABLE = "unverifiable"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """A verdict. `tier`: the tier of the verifier that decided; `detail`: one line for people who audit the verdict."""

    outcome: Outcome
    tier: str
    detail: str = ""
