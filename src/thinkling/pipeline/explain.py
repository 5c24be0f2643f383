"""The `explain` command: print what happened to one document, problem or conversation in each stage of a run."""

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
"""Form of a record → the kind of thing that its ids identify, in the plural."""
_LISTED = 10
"""Maximum number of ids to list in an error message."""
_MOST = 1_000
"""Maximum number of matching ids to count."""
_COMPARED = 20_000
"""Maximum number of ids to compare with a mistyped id. A comparison with more ids would take seconds."""


def explain(run: Path, wanted: str, whole: bool, console: Console) -> None:
    """Print the history of an id: every stage that processed it, in the order in which the stages ran.

    `run`: the run's folder. `wanted`: an id, or its unique beginning or end. `whole`: whether to print texts in full.
    Raises UserError if no id or more than one id matches.
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
            note = f"{folder.path.name}: unfinished; the stage is still running or was stopped"
            console.print(Text(note, style="yellow"))


@dataclass
class _Fitting:
    """Ids that match the requested text, grouped by the kind of match."""

    exact: bool = False
    own: set[str] = field(default_factory=set)
    """Ids that equal the text after their source prefix, such as `topics/if` for `if`."""
    affix: set[str] = field(default_factory=set)
    """Ids that begin or end with the text."""
    inside: set[str] = field(default_factory=set)
    """Ids that contain the text elsewhere."""
    seen: dict[str, None] = field(default_factory=dict)
    """The first ids of the run, matching or not, in order."""

    def add(self, wanted: str, identity: str) -> None:
        """Compare an id of the run with the text and add it to the groups that it matches."""
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
    """Return `wanted` if it is an id; otherwise return the id that matches it best.

    Raises UserError if no id matches (the message lists the closest ids) or if several ids match equally well (the
    message lists them).
    """
    if not wanted:
        raise UserError("ID: empty; specify an id, or the beginning or end of an id")
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
        raise UserError(f"{wanted}: {n} ids begin or end with this text: {_spelled(listed)}{more}; specify a full id")
    close = list(dict.fromkeys([*sorted(fitting.inside), *difflib.get_close_matches(wanted, fitting.seen, 3, 0.5)]))
    closest = f"; the closest ids are {_spelled(close[:_LISTED])}" if close else ""
    known = ", ".join(f"{name} (such as {visible(identity)})" for name, identity in kinds.items())
    has = f"the run has ids of {known}" if known else "no stage of the run has written records yet"
    raise UserError(f"{wanted}: no record in {run} has this id{closest}; {has}")


def _spelled(found: Sequence[str]) -> str:
    return ", ".join(map(visible, found))
