"""Printing, for the `explain` command, of the records about one document, problem or conversation in an artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from thinkling.data.readers import readable
from thinkling.pipeline import history_documents, history_samples, printing
from thinkling.pipeline.forms import (
    ANNOTATED,
    BAND,
    CONVERSATIONS,
    DOCUMENTS,
    JOBS,
    LEDGER,
    PAIRS,
    REJECTED,
    REPLIES,
    ROLLOUTS,
    Form,
)
from thinkling.pipeline.printing import Page, head
from thinkling.pipeline.records import Item, Table, find, record_of, where
from thinkling.pipeline.stage_folders import StageFolder

SPANS = "spans.jsonl"


def history(folder: StageFolder, found: Sequence[Table], page: Page) -> bool:
    """Print an artifact's records about the page's id. Return whether there were any."""
    said = False
    for form, printed in _PRINTED.items():
        items = find([table for table in found if table.form is form], page.identity)
        if items and not said:
            page.stage(folder)
        if items:
            printed(items, page)
            said = True
    for kind, printed_by in _FOLLOWED.items():
        said = (folder.settings.get("kind") == kind and printed_by(folder, page)) or said
    return said


def _jobs(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row, final = item.row, item.row["rounds"]
        page.say(
            f"rejected: {item.reason}" if item.reason else "kept",
            f"job {row['key']} on problem {row['problem_id']}",
            f"ended: {row['end']}" if row["end"] else "",
            "noise was added to the draft" if row["noisy"] else "",
        )
        page.text("question", row["question"], printing.ROLES["user"])
        if row["checklist"]:
            page.text("checklist", "\n".join(row["checklist"]))
        for number, one in enumerate(final):
            label = "draft" if number == 0 else f"revision {number}"
            met = one["met"]
            judged = "" if met is None else f"{sum(met)} of {len(met)} items met"
            printing.say(page.console, head(label, judged, outcome=one["outcome"]), indent=4)
            page.text("thinking", one["reasoning"], "dim")
            page.text("answer", one["answer"], printing.ROLES["assistant"])
            for critique in one["critiques"] or []:
                page.text("critique", critique)
        page.text("summary", row["summary"])
        page.text("chain", row["chain"], "dim")


def _conversations(items: Sequence[Item], page: Page) -> None:
    folder = items[0].table.folder
    left_out = dropped(folder)
    spans = _spans(folder)
    for item in items:
        row = item.row
        if row["id"] in left_out:
            fate = "not trained on; the reason is below"
        elif item.table.name == "validation":
            fate = "kept for validation"
        else:
            fate = "trained on" if folder.settings.get("kind") == "sft" else "written"
        answers = f"answers problem {row['problem_id']}" if row["problem_id"] not in (None, row["id"]) else ""
        span = spans.get(row["id"])
        tokens = f"{span['tokens']:,} tokens, {span['loss_tokens']:,} with loss" if span else ""
        page.say(fate, f"conversation {row['id']}", f"source {row['source']}", answers, tokens)
        for label, text, style in printing.turns(row["messages"]):
            page.text(label, text, style)


def dropped(folder: StageFolder) -> set[str]:
    """Return the ids of the conversations that an sft stage excluded, from its rejected.jsonl."""
    path = folder.path / "rejected.jsonl"
    if not path.is_file():
        return set()
    table = Table(folder, path.name, LEDGER, (path,))
    noted = where(table, ("id", "where"), lambda row: row["where"] == "conversations.parquet")
    return {row["id"] for row in noted if row["id"] is not None}


def _spans(folder: StageFolder) -> dict[str, dict[str, Any]]:
    """Map the ids of the conversations in spans.jsonl, at most 20, to their entries, which include token counts."""
    path = folder.path / SPANS
    if not path.is_file():
        return {}
    with readable(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def _ledger(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row, record = item.row, record_of(item.row)
        tokens = f"{record['tokens']:,} tokens" if isinstance(record.get("tokens"), int) else ""
        page.say(f"rejected: {row['reason']}", row["detail"], tokens, f"{row['where']} of source {row['source']}")
        if set(record) - {"id", "tokens"} or not record:
            page.text("record", row["record"])


def _replies(items: Sequence[Item], page: Page) -> None:
    for item in items:
        page.say(f"reply of {item.row['field']} could not be read: {item.row['reason']}")
        page.text("reply", item.row["text"])


def _pairs(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row = item.row
        margin = "" if row["margin"] is None else f"teacher leads by {row['margin']:.2f}"
        page.say("pair", f"{row['family']}", margin, f"answer {row['answer']}" if row["answer"] else "")
        page.text("question", row["question"], printing.ROLES["user"])
        page.text("chosen", row["chosen"]["text"], "green")
        page.text("rejected", row["rejected"]["text"], "red")


_PRINTED: dict[Form, Callable[[Sequence[Item], Page], None]] = {
    DOCUMENTS: history_documents.documents,
    REJECTED: history_documents.rejected,
    ANNOTATED: history_documents.annotated,
    BAND: history_samples.problems,
    JOBS: _jobs,
    CONVERSATIONS: _conversations,
    PAIRS: _pairs,
    ROLLOUTS: history_samples.rollouts,
    REPLIES: _replies,
    LEDGER: _ledger,
}
"""Form → the function that prints its records, in the order of printing."""
_FOLLOWED: dict[str, Callable[[StageFolder, Page], bool]] = {
    "tokenize": history_documents.tokenized,
    "pretrain": history_documents.pretrained,
}
"""Kind of stage → the function that prints what the stage did with a document. The artifacts of these stages contain no
ids, so these functions derive the result from the stage's input artifacts."""
