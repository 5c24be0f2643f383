"""Statistics of replies that could not be parsed: how many there were, for which reasons, and some verbatim samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkling.data.atomic import replacing
from thinkling.progress import Progress

if TYPE_CHECKING:
    from thinkling.generate.backends import Reply

FILE = "unreadable.jsonl"
LARGE_SHARE = 0.1
"""A warning is printed if more than this share of a model's replies cannot be parsed. A smaller share hardly affects
the result."""
SAMPLES = 20
"""Maximum number of replies stored per field and reason."""
_CHARACTERS = 10_000


class Readings:
    """Counts of each model's parsed and unparseable replies, by the recipe field that specifies the model."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._samples: list[dict[str, Any]] = []

    def add(self, field: str, reply: Reply, reason: str | None, about: str) -> None:
        """Adds one reply. `reason`: why the reply cannot be parsed; None if it was parsed. `about`: a description of
        the item on which the model was asked, stored with the sample."""
        self._asked[field] += 1
        if reason is None:
            return
        reasons = self._reasons.setdefault(field, Counter())
        reasons[reason] += 1
        if reasons[reason] <= SAMPLES:
            shown = {"text": reply.text[:_CHARACTERS], "reasoning": reply.reasoning[:_CHARACTERS]}
            self._samples.append({"field": field, "reason": reason, "about": about, **shown})

    def counts(self) -> dict[str, dict[str, Any]]:
        """Returns the counts by recipe field, each of the form `{"asked", "read", "unreadable": {reason: n}}`."""
        found: dict[str, dict[str, Any]] = {}
        for field, asked in self._asked.items():
            reasons = dict(sorted(self._reasons.get(field, {}).items()))
            found[field] = {"asked": asked, "read": asked - sum(reasons.values()), "unreadable": reasons}
        return found

    def write(self, directory: Path) -> None:
        """Writes the samples to unreadable.jsonl, if there are any."""
        if self._samples:
            with replacing(directory / FILE) as temporary, temporary.open("w", encoding="utf-8") as stream:
                for sample in self._samples:
                    stream.write(json.dumps(sample) + "\n")


def say(counts: dict[str, dict[str, Any]], where: str, progress: Progress) -> None:
    """Prints one line per model with replies that could not be parsed, as a warning if there are many."""
    for field, entry in counts.items():
        unread = sum(entry["unreadable"].values())
        if unread:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in entry["unreadable"].items())
            text = (
                f"{where}.{field}: {unread:,} of {entry['asked']:,} replies could not be parsed ({reasons}); "
                f"samples are in {FILE}"
            )
            (progress.warn if unread > LARGE_SHARE * entry["asked"] else progress.note)(text)
