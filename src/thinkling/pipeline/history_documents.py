"""Printing of a document's history: its duplicates, grades and class in curate, its tokens in tokenize, and its epochs
in pretrain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thinkling.pipeline.forms import DOCUMENTS, REJECTED
from thinkling.pipeline.printing import Page
from thinkling.pipeline.records import Item, Table, find, where
from thinkling.pipeline.stage_folders import StageFolder

GRADING = "grading.json"
_LISTED = 5
"""Maximum number of duplicates to list."""


def documents(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row = item.row
        page.say(
            f"kept as {row['quality']}",
            f"source {row['source']}",
            f"{len(row['text']):,} characters",
            "markup is encoded as special tokens" if row["markup"] else "",
        )
        if "value" in row:
            _value(item, page)
        page.text("text", row["text"])
        copies = [copy["id"] for copy in _copies(item.table.folder, page.identity)]
        if copies:
            more = f" and {len(copies) - _LISTED:,} more" if len(copies) > _LISTED else ""
            page.fact("copies", f"{len(copies):,} rejected as its duplicates: {', '.join(copies[:_LISTED])}{more}")


def _value(item: Item, page: Page) -> None:
    """Print the quality value with its terms, the grades and the similarity to the seeds."""
    import numpy as np

    from thinkling.quality.tags import NAMES
    from thinkling.quality.value import COLUMNS, SIMILARITY, QualityModel, columns

    row, report = item.row, item.table.folder.path / GRADING
    if report.is_file():
        model = QualityModel.load(report)
        grades = np.array([[row[name] for name in NAMES]], np.int8)
        terms = model.contributions(columns(grades, np.array([row[SIMILARITY]], np.float32)))[0]
        order = sorted((c for c in range(len(COLUMNS)) if abs(terms[c]) >= 0.005), key=lambda c: -abs(terms[c]))
        sums = "".join(f" {terms[c]:+.2f} {COLUMNS[c]}" for c in order)
        page.fact("value", f"{row['value']:.2f} = {model.intercept:.2f}{sums}")
    else:
        page.fact("value", str(row["value_terms"]))
    page.fact("grades", ", ".join(f"{name} {row[name]}" for name in NAMES) + " (0–9)")
    page.fact("seeds", f"similarity {row[SIMILARITY]:.2f}")


def _copies(folder: StageFolder, identity: str) -> list[dict[str, Any]]:
    path = folder.path / "rejected.parquet"
    if not path.is_file():
        return []
    table, wanted = Table(folder, path.stem, REJECTED, (path,)), f"of {identity}"
    return list(where(table, ("id", "reason", "detail"), lambda row: row["detail"] == wanted))


def rejected(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row = item.row
        page.say(f"rejected: {row['reason']}", row["detail"] or "", f"source {row['source']}", outcome=None)
        page.text("text", row["text"])


def annotated(items: Sequence[Item], page: Page) -> None:
    damaged = [f"{item.row['damage']} {item.row['damaged_fraction']:.0%}" for item in items if item.row["damage"]]
    page.say("used to train the labeller", f"also with artificial damage: {', '.join(damaged)}" if damaged else "")


def tokenized(folder: StageFolder, page: Page) -> bool:
    """Print where a tokenize stage wrote the document's tokens. Return whether the stage read the document."""
    import numpy as np

    from thinkling.data.shards import TokenSource
    from thinkling.stages.tokenize.selection import group_name, survey, validation_documents

    group = group_of(folder, page.identity)
    if group is None:
        return False
    table = _curated(folder)
    assert table is not None
    light = ({**row, "text": ""} for row in where(table, ("id", "quality", "source"), lambda r: group_name(r) == group))
    rows = list(light)
    validation = validation_documents(survey(rows), folder.settings.get("validation_fraction", 0.0))
    at = next(i for i, row in enumerate(rows) if row["id"] == page.identity)
    part = "validation" if at in validation else "shards"
    place = sum((i in validation) == (at in validation) for i in range(at))
    lengths = TokenSource(folder.path / part / group).lengths
    tokens = int(np.asarray(lengths)[place])
    page.stage(folder)
    page.say(f"{tokens:,} tokens", f"document {place + 1:,} of {len(lengths):,} in {part}/{group}")
    return True


def pretrained(folder: StageFolder, page: Page) -> bool:
    """Print how many epochs a pretrain stage trained on the document's group. Return whether the stage read the
    group."""
    tokens = folder.input("tokens")
    found = None if tokens is None else StageFolder.open(tokens)
    group = None if found is None else group_of(found, page.identity)
    if group is None:
        return False
    page.stage(folder)
    used = folder.counts.get("sources", {}).get(group)
    if used is None:
        page.say(f"no phase trains on {group}")
    else:
        page.say(f"{group}: {used['epochs']:.2f} epochs", f"{used['tokens']:,} tokens, {used['rows']:,} rows")
    return True


def group_of(tokens: StageFolder, identity: str) -> str | None:
    """Return the group (quality and source) of a document in a tokenize stage; None if the stage did not read it."""
    from thinkling.stages.tokenize.selection import group_name

    table = _curated(tokens)
    items = [] if table is None else find([table], identity, ("id", "quality", "source"))
    return group_name(items[0].row) if items else None


def _curated(tokens: StageFolder) -> Table | None:
    curated = tokens.input("documents")
    path = None if curated is None else curated / "documents.parquet"
    return None if path is None or not path.is_file() else Table(tokens, path.stem, DOCUMENTS, (path,))
