"""The `show` command: print records that a stage wrote or rejected, or their counts by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from thinkling.errors import UserError
from thinkling.pipeline import summary
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
    Row,
)
from thinkling.pipeline.histories import dropped
from thinkling.pipeline.mistakes import nearest
from thinkling.pipeline.printing import Reader, say
from thinkling.pipeline.records import Item, Table, count, draw, draw_of, tables
from thinkling.pipeline.shown import Printer
from thinkling.pipeline.stage_folders import StageFolder, stage_folders
from thinkling.pipeline.unpaired import SAMPLES, unpaired

SCORES = "scores.json"
_MAIN = (DOCUMENTS, CONVERSATIONS, PAIRS, BAND, ROLLOUTS)
"""Forms of the records to show by default. With `--rejected` or `--reason`, `_WITH_REASONS` is used instead."""
_WITH_REASONS = (REJECTED, LEDGER, JOBS, BAND, UNPAIRED, ROLLOUTS, REPLIES)


@dataclass(frozen=True)
class Choice:
    """The user's selection of records."""

    rejected: bool = False
    """Select only rejected records, including rollouts that are not right."""
    reason: str | None = None
    """Select only records whose reason contains this text, ignoring case."""
    source: str | None = None
    """Select only records of this source, family or task set."""

    @property
    def by_reason(self) -> bool:
        """Whether records without a reason are excluded."""
        return self.rejected or self.reason is not None

    def columns(self, form: Form) -> tuple[str, ...]:
        """Return the columns that `takes` reads."""
        source = (form.source,) if self.source is not None and form.source else ()
        return (*(form.reads if self.by_reason else ()), *source)

    def takes(self, form: Form, row: Row) -> bool:
        """Whether a record is selected, judged by its columns alone. `of` handles task sets, which are table names."""
        if self.by_reason:
            found = form.reason(row)
            if found is None or (self.reason is not None and self.reason.lower() not in found.lower()):
                return False
        return self.source is None or is_of(self.source, row[form.source] if form.source else "")

    def of(self, table: Table) -> Choice:
        """Return the choice to apply to the rows of a table: without `source`, if `source` is the table's task set."""
        return Choice(self.rejected, self.reason) if self.source == _task_set(table) else self


def is_of(wanted: str, source: str | None) -> bool:
    """Whether a record's source equals `wanted` or is a part of it, such as one of its families."""
    return source == wanted or (source or "").startswith(f"{wanted}/")


def show(run: Path, stage: str, choice: Choice, n: int, seed: int, console: Console) -> None:
    """Print `n` records of each kind or, if `n` is 0, the number of records by reason.

    Raises UserError if the requested stage, source or reason does not exist. The message lists those that exist.
    """
    folder = _folder(run, stage)
    found = tables(folder)
    lost = list(unpaired(folder)) if _has_samples(found) else []
    lost_items = [Item(Table(folder, "problems without a pair", UNPAIRED, ()), asdict(one)) for one in lost]
    if not found:
        others = [other.stage for other in stage_folders(run) if tables(other)]
        raise UserError(f"{stage}: the stage writes no records; stages with records: {', '.join(others) or 'none'}")
    _check(choice, found, lost_items)
    if folder.manifest is None:
        console.print(Text(f"{folder.path.name}: unfinished; only complete files are shown", style="yellow"))
    if n == 0:
        console.print(table_of_reasons(folder, _reasons(found, lost_items, choice)))
        for line in summary.turned_away(stage, folder.counts):
            say(console, line, indent=0)
        return
    if not choice.by_reason and (folder.path / SCORES).is_file():
        console.print(_scores(folder, console.width))
    left_out = dropped(folder)
    printer = Printer(console, folder, Reader())
    for form in _WITH_REASONS if choice.by_reason else _MAIN:
        mine = [table for table in found if table.form is form]
        if form is UNPAIRED:
            drawn = draw_of([item for item in lost_items if choice.takes(form, item.row)], n, seed)
        elif form is CONVERSATIONS and left_out:
            drawn = draw(mine, lambda table: (*_columns(choice, table), "id"), lambda table, row: (
                row["id"] not in left_out and _takes(choice, table, row)
            ), n, seed)  # fmt: skip
        else:
            drawn = draw(mine, lambda table: _columns(choice, table), lambda t, r: _takes(choice, t, r), n, seed)
        printer.print(form, drawn)
    _hint(folder, found, choice, console)


def _columns(choice: Choice, table: Table) -> tuple[str, ...]:
    return choice.of(table).columns(table.form)


def _takes(choice: Choice, table: Table, row: Row) -> bool:
    return choice.of(table).takes(table.form, row)


def _task_set(table: Table) -> str:
    return table.name.rpartition("/")[2]


def _folder(run: Path, stage: str) -> StageFolder:
    folders = stage_folders(run)
    mine = [folder for folder in folders if folder.stage == stage]
    if not mine:
        there = list(dict.fromkeys(folder.stage for folder in folders))
        raise UserError(f"{run}: no stage {stage!r}{nearest(stage, there)}; its stages are {', '.join(there)}")
    return mine[-1]


def _has_samples(found: Sequence[Table]) -> bool:
    return SAMPLES["student"] in {table.name for table in found}


def _check(choice: Choice, found: Sequence[Table], lost: Sequence[Item]) -> None:
    """Raise UserError if no record has the requested source or reason."""
    if choice.source is not None:
        sources: Counter[str] = Counter()
        for table in found:
            if table.form.source:
                name = table.form.source
                sources.update(count(table, (name,), lambda row, name=name: row[name] or "none"))
        task_sets = {_task_set(table) for table in found}
        if choice.source not in task_sets and not any(is_of(choice.source, name) for name in sources):
            raise UserError(f"--source {choice.source}: no record has this source; the sources are {_listed(sources)}")
    if choice.by_reason:
        reasons = Counter({reason: n for (_, reason), n in _reasons(found, lost, Choice()).items() if reason})
        wanted = choice.reason or ""
        if not any(wanted.lower() in reason.lower() for reason in reasons):
            option = f"--reason {wanted}" if choice.reason is not None else "--rejected"
            none = f"no reason for rejecting a record contains this text; the reasons are {_listed(reasons)}"
            there = none if reasons else "no record was rejected"
            raise UserError(f"{option}: {there}")


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{name} ({n:,})" for name, n in found.most_common()) or "none"


def _reasons(found: Sequence[Table], lost: Sequence[Item], choice: Choice) -> Counter[tuple[str, str | None]]:
    """Count the records by (kind of record, reason or None). The kinds are in the order in which they are shown."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for form in dict.fromkeys((*_MAIN, *_WITH_REASONS)):
        for table in (table for table in found if table.form is form):
            mine = choice.of(table)
            source = (form.source,) if mine.source is not None and form.source else ()
            by_reason = count(
                table, (*form.reads, *source), lambda row, f=form, c=mine: (f.reason(row), c.takes(f, row))
            )
            counts.update({(form.name, reason): n for (reason, taken), n in by_reason.items() if taken})
    counts.update((UNPAIRED.name, item.reason) for item in lost if choice.takes(UNPAIRED, item.row))
    return counts


def table_of_reasons(folder: StageFolder, counts: Counter[tuple[str, str | None]]) -> RichTable:
    """Return a table of the counts by kind and reason, with the most frequent reasons first."""
    table = RichTable(title=f"{folder.stage}: records by reason", title_justify="left")
    table.add_column("records", overflow="fold")
    table.add_column("kept or reason", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    for kind in kinds:
        mine = [(reason, n) for (of, reason), n in counts.items() if of == kind]
        for reason, n in sorted(mine, key=lambda entry: (entry[0] is not None, -entry[1])):
            kept = "right" if kind == ROLLOUTS.name else "kept"
            table.add_row(kind, Text(reason or kept), f"{n:,}")
            kind = ""
    return table


def _scores(folder: StageFolder, width: int) -> RichTable:
    model = folder.settings.get("inputs", {}).get("model", "model")
    scores = json.loads((folder.path / SCORES).read_text(encoding="utf-8"))
    return summary.score_table([{"checkpoint": model, **score} for score in scores], width)


def _hint(folder: StageFolder, found: Sequence[Table], choice: Choice, console: Console) -> None:
    """Print the command that shows the records with a reason, if there are any and they were not requested."""
    if choice.by_reason:
        return
    reasons = Counter({r: n for (_, r), n in _reasons(found, (), choice).items() if r is not None})
    if reasons:
        line = f"records with a reason: {_listed(reasons)}. `--reason TEXT` shows them, and `--n 0` counts them."
        say(console, Text(line, style="dim"), indent=0)
