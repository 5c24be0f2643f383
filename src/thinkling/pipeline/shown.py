"""Printing of records for the `show` command: a line of facts, then the record's texts, cut if they are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from thinkling.pipeline import printing
from thinkling.pipeline.forms import (
    BAND,
    CONVERSATIONS,
    DOCUMENTS,
    JOBS,
    LEDGER,
    PAIRS,
    REJECTED,
    REPLIES,
    ROLLOUTS,
    UNPAIRED,
    Form,
)
from thinkling.pipeline.history_samples import place, reward, rewards_of
from thinkling.pipeline.printing import ROLES, Reader, block, head, labelled, n_tokens, turns
from thinkling.pipeline.records import Drawn, Item, find, record_of, tables
from thinkling.pipeline.stage_folders import StageFolder


@dataclass
class Printer:
    """Prints drawn records of one artifact."""

    console: Console
    folder: StageFolder
    reader: Reader

    def print(self, form: Form, drawn: Drawn) -> None:
        """Print the records under a heading. Print nothing if no record matches the user's selection."""
        if not drawn.total:
            return
        title = f"{len(drawn.items):,} of {drawn.total:,} {form.name}"
        self.console.print(Text.assemble((title, "bold underline"), (f"  {self.folder.path.name}", "dim")))
        for item in drawn.items:
            _PRINTED[form](self, item)
            self.console.print()

    def facts(self, *facts: str, outcome: str | None = None) -> None:
        """Print the first line of a record."""
        printing.say(self.console, head(*facts, outcome=outcome))

    def text(self, label: str, text: str | None, style: str = "") -> None:
        """Print a text of a record. Print nothing if the text is missing or empty."""
        if text and label:
            labelled(self.console, label, block(text), style)
        elif text:
            printing.say(self.console, Text(block(text), style=style), indent=4)

    def conversation(self, row: Mapping[str, object], messages: Iterable[tuple[str, str, str]], *facts: str) -> None:
        """Print a conversation turn by turn."""
        answers = f"answers problem {row['problem_id']}" if row["problem_id"] not in (None, row["id"]) else ""
        self.facts(str(row["id"]), str(row["source"]), answers, *facts)
        for label, text, style in messages:
            self.text(label, text, style)


def _document(printer: Printer, item: Item) -> None:
    row = item.row
    value = f"value {row['value']:.2f}" if "value" in row else ""
    printer.facts(row["id"], row["quality"], f"{len(row['text']):,} characters", value)
    printer.text("", row["text"])


def _rejected(printer: Printer, item: Item) -> None:
    row = item.row
    printer.facts(f"rejected: {row['reason']}", row["detail"] or "", row["id"] or "", f"source {row['source']}")
    printer.text("", row["text"])


def _record(printer: Printer, item: Item) -> None:
    row, record = item.row, record_of(item.row)
    printer.facts(f"rejected: {row['reason']}", row["detail"], row["where"], f"source {row['source']}")
    if not set(record) <= {"id", "tokens"} or not record:
        printer.text("", row["record"])
        return
    conversations = [table for table in tables(printer.folder) if table.form is CONVERSATIONS]
    tokens = f"{record['tokens']:,} tokens" if "tokens" in record else ""
    for found in find(conversations, record["id"]) if record.get("id") else ():
        printer.conversation(found.row, turns(found.row["messages"]), tokens)


def _conversation(printer: Printer, item: Item) -> None:
    validation = "for validation" if item.table.name == "validation" else ""
    printer.conversation(item.row, turns(item.row["messages"]), validation)


def _job(printer: Printer, item: Item) -> None:
    row = item.row
    printer.facts(f"rejected: {item.reason}" if item.reason else "kept", f"problem {row['problem_id']}", row["family"])
    printer.text("question", row["question"], ROLES["user"])
    for number, one in enumerate(row["rounds"]):
        met = "" if one["met"] is None else f"{sum(one['met'])} of {len(one['met'])} items met"
        label = "draft" if number == 0 else f"revision {number}"
        printing.say(printer.console, head(label, met, outcome=one["outcome"]), indent=4)
        printer.text("thinking", one["reasoning"], "dim")
        printer.text("answer", one["answer"], ROLES["assistant"])
        for critique in one["critiques"] or []:
            printer.text("critique", critique)
    printer.text("chain", row["chain"], "dim")


def _pair(printer: Printer, item: Item) -> None:
    row = item.row
    margin = "" if row["margin"] is None else f"teacher leads by {row['margin']:.2f}"
    printer.facts(row["problem_id"], row["family"], margin)
    printer.text("question", row["question"], ROLES["user"])
    for side, outcome in (("chosen", "green"), ("rejected", "red")):
        tokens = f"{n_tokens(row[side]):,} tokens"
        printing.say(printer.console, Text.assemble((side, f"bold {outcome}"), f" · {tokens}"), indent=4)
        for label, text, style in printer.reader.parts(item.table, row[side]):
            printer.text(label, text, style)


def _problem(printer: Printer, item: Item) -> None:
    row = item.row
    fate = f"outside the band: {item.reason}" if item.reason else "in the band"
    rate = f"{row['passes']} of {row['samples']} samples right or preferred"
    printer.facts(fate, rate, row["problem_id"], row["source"], row["family"] if row["family"] != row["source"] else "")
    printer.text("question", row["question"], ROLES["user"])
    printer.text("reference", row["reference"])


def _rollout(printer: Printer, item: Item) -> None:
    row = item.row
    value = None
    if item.table.name.startswith("rollouts/") and item.table.step is not None:
        value = reward(row, rewards_of(item.table.folder, row["problem_id"]))
    printer.facts(
        f"reward {value:g}" if value is not None else "",
        f"{row['tier']}: {row['detail']}" if row["detail"] else row["tier"],
        place(item.table),
        f"{row['family']} {row['problem_id']}, sample {row['sample']}",
        f"{n_tokens(row):,} tokens",
        outcome=row["outcome"],
    )
    printer.text("question", row["question"], ROLES["user"])
    for label, text, style in printer.reader.parts(item.table, row):
        printer.text(label, text, style)
    printer.text("reference", row["reference"])


def _unpaired(printer: Printer, item: Item) -> None:
    row = item.row
    printer.facts(f"no pair: {row['reason']}", row["problem_id"], row["family"])
    printer.text("question", row["question"], ROLES["user"])


def _reply(printer: Printer, item: Item) -> None:
    row = item.row
    printer.facts(f"could not be read: {row['reason']}", row["field"], f"about {row['about']}")
    printer.text("thinking", row["reasoning"], "dim")
    printer.text("reply", row["text"])


_PRINTED: dict[Form, Callable[[Printer, Item], None]] = {
    DOCUMENTS: _document,
    REJECTED: _rejected,
    LEDGER: _record,
    CONVERSATIONS: _conversation,
    JOBS: _job,
    PAIRS: _pair,
    BAND: _problem,
    ROLLOUTS: _rollout,
    UNPAIRED: _unpaired,
    REPLIES: _reply,
}
