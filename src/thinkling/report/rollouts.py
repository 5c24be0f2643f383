"""Three samples of a stage that are shown open: one right, one wrong, one that thinks.

The rule, so that nobody picks: tables are taken in order, for RL the last step that was kept first, for an evaluation
its task sets as they are scored. Of the first table that has any, "right" and "wrong" are those of median length in
characters. "thinks" is the longest sample that thinks and ended by itself; where all were cut off, the longest. It is
another one than the first two. Ties: the smaller problem id, then the smaller sample number.
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
    """A sample: where it is, and what it is chosen by."""

    length: int
    problem_id: str
    sample: int
    outcome: str
    thinks: bool
    cut_off: bool
    place: tuple[int, int]
    """Row group and row."""

    @property
    def order(self) -> tuple[int, str, int]:
        return self.length, self.problem_id, self.sample


@dataclass(frozen=True)
class Shown:
    """A chosen sample: why it is shown, the table it is from, the row."""

    why: str
    table: str
    row: dict[str, Any]

    @property
    def title(self) -> str:
        """`right, of median length, step 30`: RL names its tables by steps, an evaluation by task sets."""
        return f"{self.why}, " + (f"step {int(self.table)}" if self.table.isdecimal() else self.table)


def shown(stage: Stage) -> list[Shown]:
    """The three samples of a stage, fewer where it has none of a sort; none for stages without rollouts."""
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
    """Row groups of a file that holds rollouts."""
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
