"""Printing of a problem's history: its pass rate and band, and its samples with verdict, reward and grade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from thinkling.pipeline import printing
from thinkling.pipeline.forms import BAND, GRADES, Row
from thinkling.pipeline.printing import Page, head, n_tokens
from thinkling.pipeline.records import Item, Table, find
from thinkling.pipeline.stage_folders import StageFolder
from thinkling.pipeline.unpaired import reason_of


def problems(items: Sequence[Item], page: Page) -> None:
    for item in items:
        row, band = item.row, item.table.folder.settings.get("band")
        limits = f" ({band['low']} to {band['high']}, exclusive)" if band else ""
        page.say(
            f"outside the band: {item.reason}" if item.reason else f"in the band{limits}",
            f"{row['passes']} of {row['samples']} samples right or preferred",
            f"{row['undecided']} undecided" if row["undecided"] else "",
            f"source {row['source']}",
        )
        page.text("question", row["question"], printing.ROLES["user"])
        page.text("reference", row["reference"])
        every = item.table.folder.settings.get("rollouts_every", 1)
        if every > 1 and not item.reason:
            page.fact("rollouts", f"saved for one step in {every} (rollouts_every of the stage)")


def rollouts(items: Sequence[Item], page: Page) -> None:
    folder = items[0].table.folder
    page.text("question", items[0].row["question"], printing.ROLES["user"])
    page.text("reference", items[0].row["reference"])
    rewards = rewards_of(folder, page.identity)
    for name, group in groupby(items, key=lambda item: item.table.name):
        samples = list(group)
        right = sum(item.row["outcome"] == "right" for item in samples)
        values = [reward(item.row, rewards) for item in samples] if name.startswith("rollouts/") and rewards else []
        equal = len(set(values)) == 1 and None not in values
        page.say(
            place(samples[0].table), f"{right} of {len(samples)} right",
            "rewards are equal, so the advantages are zero" if equal else "",
        )  # fmt: skip
        grades = _grades(samples[0].table, page.identity)
        for item in samples:
            _sample(item, page, rewards if values else None, grades.get(item.row["sample"]))
    if (reason := reason_of(folder, page.identity)) is not None:
        page.say(f"no pair: {reason}")


def place(table: Table) -> str:
    """Describe where the samples of a table come from."""
    top, _, rest = table.name.partition("/")
    if top == "samples":
        return f"samples of the {rest}"
    if top == "band":
        return f"pass rates of {rest}"
    if top == "evaluations":
        return f"evaluated after step {table.step}: {rest.partition('/')[2]}"
    return f"step {table.step}" if table.step is not None else f"task set {rest}"


def _sample(item: Item, page: Page, rewards: Mapping[str, float] | None, grade: float | None) -> None:
    row = item.row
    value = reward(row, rewards) if rewards is not None else None
    facts = head(
        f"sample {row['sample']}",
        f"reward {value:g}" if value is not None else "",
        f"grade {grade:.2f}" if grade is not None else "",
        f"{row['tier']}: {row['detail']}" if row["detail"] else row["tier"],
        f"{n_tokens(row):,} tokens",
        "" if row["thinks"] else "no reasoning",
        outcome=row["outcome"],
    )
    printing.say(page.console, facts, indent=4)
    for label, text, style in page.reader.parts(item.table, row):
        page.text(label, text, style)


def rewards_of(folder: StageFolder, problem_id: str) -> Mapping[str, float]:
    """Return the rewards of a problem in an rl stage and their weights; empty if they are not known."""
    path = folder.path / "band.parquet"
    if not folder.settings.get("problems") or not path.is_file():
        return {}
    rows = find([Table(folder, path.stem, BAND, (path,))], problem_id, ("problem_id", "source"))
    sources = {item.row["source"] for item in rows}
    return next((p.get("rewards", {}) for p in folder.settings["problems"] if p["source"] in sources), {})


def reward(row: Row, rewards: Mapping[str, float]) -> float | None:
    """Return a sample's reward if it follows from the verdict; otherwise None.

    The reward is None if the verdict excludes the sample from its group, or if the problem has other rewards, because
    rewards other than `verdict` are not saved per sample.
    """
    if set(rewards) != {"verdict"} or row["outcome"] not in ("right", "wrong"):
        return None
    return rewards["verdict"] * (row["outcome"] == "right")


def _grades(table: Table, identity: str) -> dict[int, float]:
    """Map the number of each sample to its grade, if a rule graded the task set."""
    path = table.folder.path / "grades" / f"{table.name.rpartition('/')[2]}.parquet"
    if not table.name.startswith("rollouts/") or not path.is_file():
        return {}
    items = find([Table(table.folder, path.stem, GRADES, (path,))], identity)
    return {item.row["sample"]: item.row["grade"] for item in items}
