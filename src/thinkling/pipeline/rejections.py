"""Counts of rejected records by reason, from the manifests of stages. The keys in a manifest depend on the kind of
stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BAND = ("too_hard", "too_easy", "undecided")
"""Reasons for which a problem is outside the band of an rl stage."""
_SIDES = ("student_", "teacher_")
"""Prefixes of the reasons for which a problem yields no pair in a dpd stage."""


@dataclass(frozen=True)
class Rejections:
    """Counts of the records of one stage, or of one source in a stage: received = kept + rejected."""

    where: str
    received: int
    kept: int
    reasons: Mapping[str, int]

    @property
    def most_frequent_first(self) -> list[tuple[str, int]]:
        return sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))

    def __str__(self) -> str:
        listed = ", ".join(f"{reason} {n:,}" for reason, n in self.most_frequent_first)
        rejected = sum(self.reasons.values())
        return f"{self.where}: {self.received:,} in, {self.kept:,} kept, {rejected:,} rejected: {listed}"


def rejections(stage: str, counts: Mapping[str, Any]) -> Iterator[Rejections]:
    """Yield the rejections of a stage, per source if the stage counts per source. Entries without rejections are
    omitted."""
    yield from (found for found in _all(stage, counts) if found.reasons)


def _all(stage: str, counts: Mapping[str, Any]) -> Iterator[Rejections]:
    sources = {name: entry for name, entry in counts.get("sources", {}).items() if "rejected" in entry}
    for name, entry in sources.items():
        yield _rejections(f"{stage}: {name}", entry.get("in"), entry["kept"], entry["rejected"])
    whole = counts.get("rejected") or {}
    if whole and Counter(whole) != sum((Counter(entry["rejected"]) for entry in sources.values()), Counter[str]()):
        yield _rejections(stage, counts.get("in", counts.get("jobs")), counts["kept"], whole)
    if "conversations" in counts and "unrenderable" in counts:
        from thinkling.stages.sft.encoding import REASONS

        yield _rejections(stage, counts["conversations"], counts["kept"], _named(counts, REASONS))
    if "pairs" in counts and "problems" in counts:
        names = [name for name in counts if name.startswith(_SIDES) or name in ("margin", "evaluated")]
        yield _rejections(stage, counts["problems"], counts["kept"], {name: counts[name] for name in names})
    for name, entry in counts.get("preferences", {}).items():
        from thinkling.stages.dpd.given import REASONS as UNUSABLE

        yield _rejections(f"{stage}: {name}", entry["pairs"], entry["kept"], _named(entry, UNUSABLE))
    for name, entry in counts.items():
        if isinstance(entry, dict) and set(BAND) <= set(entry):
            yield _rejections(f"{stage}: {name}", entry["problems"], entry["kept"], _named(entry, {r: r for r in BAND}))


def _named(counts: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, int]:
    return {spelled: counts[name] for name, spelled in words.items() if counts.get(name)}


def _rejections(where: str, received: int | None, kept: int, reasons: Mapping[str, int]) -> Rejections:
    found = {reason: n for reason, n in reasons.items() if n}
    return Rejections(where, kept + sum(found.values()) if received is None else received, kept, found)
