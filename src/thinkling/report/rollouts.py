"""Three samples of a stage that are shown expanded: a right sample, a wrong sample, and a sample with reasoning.

The samples are selected by a fixed rule, so that they cannot be cherry-picked. Tables are searched in a fixed order:
those of an rl stage from the last stored step backwards, and those of an evaluation in the order of the task sets in
its scores. Each sample is taken from the first table that contains a suitable sample. "right" and "wrong" are the
samples of median length in characters. "thinks" is the longest sample that has reasoning and ended by itself or, if all
were cut off, the longest sample with reasoning. It is never one of the other two samples. Ties are broken by the
smaller problem id, then by the smaller sample number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from thinkling.data.readers import readable
from thinkling.report.read import Stage
from thinkling.report.samples import MAX_PARTS, read_rows, shown_columns, spread

NEEDED = ("problem_id", "sample", "text", "outcome")
MARKS = ("thinks", "finish_reason")
Part = tuple[Path, int]


@dataclass(frozen=True)
class Candidate:
    """A sample: its place, and the values by which it is selected."""

    length: int
    problem_id: str
    sample: int
    outcome: str
    thinks: bool
    cut_off: bool
    place: tuple[int, int]
    """Index of the row group, and index of the row in it."""

    @property
    def order(self) -> tuple[int, str, int]:
        return self.length, self.problem_id, self.sample


@dataclass(frozen=True)
class Shown:
    """A selected sample: the reason why it is shown, the name of its table, and its row."""

    why: str
    table: str
    row: dict[str, Any]

    @property
    def title(self) -> str:
        """Title such as `right, of median length, step 30`. The tables of an rl stage are named by step, and the tables
        of an evaluation by task set."""
        return f"{self.why}, " + (f"step {int(self.table)}" if self.table.isdecimal() else self.table)


def shown(stage: Stage) -> list[Shown]:
    """Return the three samples of a stage, or fewer if the stage has no sample of a kind. The list is empty for stages
    without rollouts."""
    if not (stage.path / "rollouts").is_dir():
        return []
    names = sorted(p.name for p in (stage.path / "rollouts").iterdir() if p.is_dir())
    scored = [score["task_set"] for score in stage.scores]
    ordered = sorted(names, key=lambda n: scored.index(n) if n in scored else len(scored)) if scored else names[::-1]
    wanted = dict.fromkeys(("right", "wrong", "thinks"))
    found: dict[str, Shown] = {}
    for name in ordered:
        missing = [what for what in wanted if what not in found]
        if not missing:
            break
        found.update(_chosen(name, sorted((stage.path / "rollouts" / name).glob("*.parquet")), missing))
    return [found[what] for what in wanted if what in found]


def _chosen(name: str, files: list[Path], missing: list[str]) -> dict[str, Shown]:
    parts = spread([part for path in files for part in _parts(path)], MAX_PARTS)
    candidates = [c for i, part in enumerate(parts) for c in _candidates(i, part)]
    picked: dict[str, tuple[str, Candidate]] = {}
    for what in ("right", "wrong"):
        of_it = sorted((c for c in candidates if c.outcome == what), key=lambda c: c.order)
        if of_it:
            picked[what] = (f"{what}, of median length", of_it[(len(of_it) - 1) // 2])
    taken = [c for what, (_, c) in picked.items() if what in missing]
    thinking = [c for c in candidates if c.thinks and c not in taken]
    ended = [c for c in thinking if not c.cut_off]
    if thinking:
        why = "thinks, the longest that ended by itself" if ended else "thinks, the longest; all were cut off"
        picked["thinks"] = (why, min(ended or thinking, key=lambda c: (-c.length, *c.order[1:])))
    picked = {what: picked[what] for what in missing if what in picked}
    if not picked:
        return {}
    with readable(files[0]), pq.ParquetFile(files[0]) as file:
        columns = shown_columns(file.schema_arrow)
    rows = read_rows(parts, [c.place for _, c in picked.values()], columns)
    return {what: Shown(why, name, rows[c.place]) for what, (why, c) in picked.items()}


def _parts(path: Path) -> list[Part]:
    """Return the row groups of a file, or an empty list if the file does not contain rollouts."""
    with readable(path), pq.ParquetFile(path) as file:
        fits = set(NEEDED) <= set(file.schema_arrow.names)
        return [(path, group) for group in range(file.metadata.num_row_groups)] if fits else []


def _candidates(number: int, part: Part) -> list[Candidate]:
    path, group = part
    with readable(path), pq.ParquetFile(path) as file:
        marks = [c for c in MARKS if c in file.schema_arrow.names]
        table = file.read_row_group(group, columns=[*NEEDED, *marks])
    lengths = pc.utf8_length(table["text"]).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    rows = table.drop_columns(["text"]).to_pylist()
    return [
        Candidate(
            length=length or 0,
            problem_id=row["problem_id"],
            sample=row["sample"],
            outcome=row["outcome"],
            thinks=bool(row.get("thinks")),
            cut_off=row.get("finish_reason") == "length",
            place=(number, i),
        )
        for i, (length, row) in enumerate(zip(lengths, rows, strict=True))
    ]
