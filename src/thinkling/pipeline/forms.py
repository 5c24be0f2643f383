"""The kinds of record that stages write: how a table of each is recognised, by what a record is found, why it was
rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.data import ledger
from thinkling.generate import unreadable

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """A kind of record."""

    name: str
    """In the plural, as it is shown."""
    needs: frozenset[str]
    """Columns by which a table of this form is recognised."""
    ids: tuple[str, ...]
    """Columns by which a record is found."""
    source: str = ""
    """Column that names where it comes from; empty without one."""
    reads: tuple[str, ...] = ()
    """Columns that `reason` needs."""
    reason: Callable[[Row], str | None] = lambda row: None
    """Why a record was rejected, or what is wrong with it; None for one that was kept."""


def _out_of_band(row: Row) -> str | None:
    if row["kept"]:
        return None
    return "undecided" if row["undecided"] else "too_hard" if row["passes"] * 2 < row["samples"] else "too_easy"


def _not_right(row: Row) -> str | None:
    """The verdict; with the verifier's words where there was nothing to compare."""
    if row["outcome"] == "right":
        return None
    unread = row["tier"] in ("length", "extract") or row["detail"] == "no readable answer"
    return f"{row['outcome']}: {row['detail']}" if unread else row["outcome"]


REJECTED = Form(
    "rejected documents", frozenset({"text", "reason"}), ("id",), "source", ("reason",), lambda row: row["reason"]
)
DOCUMENTS = Form("documents", frozenset({"text", "source", "quality"}), ("id",), "source")
CONVERSATIONS = Form("conversations", frozenset({"messages"}), ("id", "problem_id"), "source")
JOBS = Form(
    "jobs", frozenset({"key", "rounds", "end"}), ("key", "problem_id"), "family", ("rejected",),
    lambda row: row["rejected"],
)  # fmt: skip
PAIRS = Form("pairs", frozenset({"prompt", "chosen", "rejected"}), ("problem_id",), "family")
BAND = Form(
    "problems", frozenset({"passes", "undecided", "kept"}), ("problem_id",), "source",
    ("kept", "undecided", "passes", "samples"), _out_of_band,
)  # fmt: skip
ROLLOUTS = Form(
    "rollouts", frozenset({"problem_id", "text", "outcome"}), ("problem_id",), "family",
    ("outcome", "tier", "detail"), _not_right,
)  # fmt: skip
GRADES = Form("grades", frozenset({"problem_id", "sample", "grade"}), ("problem_id",))
ANNOTATED = Form("annotated examples", frozenset({"id", "damage"}), ("id",))
LEDGER = Form("rejected records", frozenset(), ("id", "where"), "source", ("reason",), lambda row: row["reason"])
REPLIES = Form("unreadable replies", frozenset(), ("about",), "field", ("reason",), lambda row: row["reason"])
PARQUET = (JOBS, BAND, PAIRS, ROLLOUTS, GRADES, CONVERSATIONS, REJECTED, DOCUMENTS, ANNOTATED)
LINES = {ledger.FILE: LEDGER, unreadable.FILE: REPLIES}
UNPAIRED = Form(
    "problems without a pair", frozenset(), ("problem_id",), "family", ("reason",), lambda row: row["reason"]
)
"""In no table: they follow from the samples of a dpd stage."""
