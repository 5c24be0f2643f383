"""The kinds of records that stages write: how to recognise a table of each kind, which columns contain ids, and how to
derive the reason for a rejection."""

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
    """The name to print, in the plural."""
    needs: frozenset[str]
    """Columns by which a table of this form is recognised."""
    ids: tuple[str, ...]
    """Columns that contain the ids of a record."""
    source: str = ""
    """Column that `--source` compares, such as `source` or `family`; empty if there is none."""
    reads: tuple[str, ...] = ()
    """Columns that `reason` reads."""
    reason: Callable[[Row], str | None] = lambda row: None
    """Returns the reason why a record was rejected or, for a rollout, a verdict other than `right`. Returns None for
    all other records."""


def _out_of_band(row: Row) -> str | None:
    if row["kept"]:
        return None
    return "undecided" if row["undecided"] else "too_hard" if row["passes"] * 2 < row["samples"] else "too_easy"


def _not_right(row: Row) -> str | None:
    """Return the verdict unless it is `right`. The verifier's detail is added if no answer could be compared."""
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
"""Problems that yielded no preference pair. They are not stored in a table, but derived from the samples of a dpd
stage."""
