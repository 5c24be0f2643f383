"""The verb `explain`: what happened to one document, problem or conversation in a run, stage by stage."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from thinkling.errors import UserError
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
)
from thinkling.pipeline.histories import history
from thinkling.pipeline.printing import Page, visible
from thinkling.pipeline.records import Table, ids, tables
from thinkling.pipeline.stage_folders import stage_folders

_KINDS = {
    DOCUMENTS: "documents",
    REJECTED: "documents",
    ANNOTATED: "documents",
    CONVERSATIONS: "conversations",
    BAND: "problems",
    ROLLOUTS: "problems",
    PAIRS: "pairs",
    JOBS: "jobs of refine",
    LEDGER: "rejected records",
    REPLIES: "jobs of refine",
}
"""Form of a record → what its ids name."""
_LISTED = 10
"""Ids that are named where several fit."""
_MOST = 1_000
"""Fitting ids that are counted."""
_COMPARED = 20_000
"""Ids that a mistyped one is compared with; more would take seconds."""


def explain(run: Path, wanted: str, whole: bool, console: Console) -> None:
    """Prints the history of an id: every stage that saw it, in the order in which the stages ran.

    `run`: the run's folder. `wanted`: an id, or its unique beginning or end. `whole`: prints texts in full.
    Raises UserError where no id or several fit.
    """
    folders = stage_folders(run)
    found = {folder.path: tables(folder) for folder in folders}
    identity = resolve(run, wanted, [table for of_stage in found.values() for table in of_stage])
    page = Page(console, identity, whole)
    console.print(Text(visible(identity), style="bold"))
    for folder in folders:
        history(folder, found[folder.path], page)
    for folder in folders:
        if folder.manifest is None:
            note = f"{folder.path.name}: not finished; the stage is running, or was stopped"
            console.print(Text(note, style="yellow"))


@dataclass
class _Fitting:
    """Ids that fit what was asked for, by how well."""

    exact: bool = False
    own: set[str] = field(default_factory=set)
    """Whose part behind the source is what was asked for: `topics/if` for `if`."""
    affix: set[str] = field(default_factory=set)
    """That begin or end with it."""
    inside: set[str] = field(default_factory=set)
    """That hold it elsewhere."""
    seen: dict[str, None] = field(default_factory=dict)
    """The first ids of all, in their order."""

    def add(self, wanted: str, identity: str) -> None:
        """One more id of the run."""
        if len(self.seen) < _COMPARED:
            self.seen[identity] = None
        if wanted not in identity:
            return
        self.exact = self.exact or identity == wanted
        affix = identity.startswith(wanted) or identity.endswith(wanted)
        if identity.endswith(f"/{wanted}") and len(self.own) < _MOST:
            self.own.add(identity)
        if affix and len(self.affix) < _MOST:
            self.affix.add(identity)
        if not affix and len(self.inside) < _LISTED:
            self.inside.add(identity)


def resolve(run: Path, wanted: str, found: Sequence[Table]) -> str:
    """The id that is meant. Raises UserError that lists those that fit, or the closest ones."""
    if not wanted:
        raise UserError("ID: it is empty; give an id, or its beginning or end")
    fitting = _Fitting()
    kinds: dict[str, str] = {}
    for table in (table for table in found if table.form in _KINDS):
        for identity in ids(table):
            kinds.setdefault(_KINDS[table.form], identity)
            fitting.add(wanted, identity)
    if fitting.exact:
        return wanted
    several = next((group for group in (fitting.own, fitting.affix) if group), set[str]())
    if len(several) == 1:
        return several.pop()
    if several:
        listed = sorted(several)[:_LISTED]
        more = f" and {len(several) - len(listed):,} more" if len(several) > len(listed) else ""
        n = f"{len(several):,}" if len(several) < _MOST else f"{_MOST:,} or more"
        raise UserError(f"{wanted}: {n} ids begin or end with it: {_spelled(listed)}{more}; give one in full")
    close = list(dict.fromkeys([*sorted(fitting.inside), *difflib.get_close_matches(wanted, fitting.seen, 3, 0.5)]))
    closest = f"; the closest are {_spelled(close[:_LISTED])}" if close else ""
    known = ", ".join(f"{name} (such as {visible(identity)})" for name, identity in kinds.items())
    has = f"it has ids of {known}" if known else "no stage of it has written records yet"
    raise UserError(f"{wanted}: nothing in {run} has this id{closest}; {has}")


def _spelled(found: Sequence[str]) -> str:
    return ", ".join(map(visible, found))
