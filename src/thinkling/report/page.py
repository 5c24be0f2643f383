"""report.html: a self-contained page about a run. It fetches no resources, runs no scripts and escapes all text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkling.data.atomic import replacing
from thinkling.report import differences, figures, flow, rollouts
from thinkling.report.read import RunView, read_run
from thinkling.report.samples import tables
from thinkling.report.templates import templates
from thinkling.report.text import cut, megabytes, number, seconds, short

REPORT = "report.html"
SAMPLE_CHARACTERS = 900
MAX_GRADES = 40


def write(run_directory: Path, artifacts: Mapping[str, Path] | None = None) -> Path:
    """Write `report.html` into a run's folder and return its path.

    `artifacts`: stage name → artifact, in the order of the recipe. By default, the artifacts listed in summary.json.

    Raises UserError if the folder is not that of a run, or if an artifact is missing or cannot be read.
    """
    page = render(read_run(run_directory, artifacts))
    target = run_directory / REPORT
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def render(run: RunView) -> str:
    """Return the page as HTML."""
    environment = templates()
    environment.globals.update(extras=extras, calls=calls, sources_of=figures.sources_of, families_of=families_of)
    environment.filters.update(
        cut=lambda text: cut(text, SAMPLE_CHARACTERS),
        number=number,
        seconds=seconds,
        short=short,
        megabytes=megabytes,
        signed=differences.signed,
    )
    return environment.get_template("page.html").render(
        run=run,
        tiles=tiles(run),
        pipeline=flow.pipeline(run),
        steps=flow.steps(run),
        counts=[(stage, *ledger(stage.counts)) for stage in run.stages],
        task_sets=task_sets(run),
        trained=figures.groups(run.stages),
        samples=[(stage, found, rollouts.shown(stage)) for stage in run.stages if (found := tables(stage.path))],
        versions=versions(run),
    )


def tiles(run: RunView) -> list[tuple[str, str, str]]:
    """Return the figures at the top of the page: name, value and remark of each figure."""
    found = []
    if run.scores:
        last = run.scores[-1]
        for score in run.scores:
            if score["task_set"] == run.scores[0]["task_set"]:
                last = score
        what = last["task_set"] + (f", avg@{last['k']}" if "k" in last else "")
        found.append((what, f"{last['mean']:.3f}", f"{last['low']:.3f}–{last['high']:.3f}, {last['checkpoint']}"))
        if last.get("thinking_fraction") is not None:
            found.append(("samples that think", f"{last['thinking_fraction']:.0%}", last["checkpoint"]))
    for stage in run.stages:
        if stage.kind == "pretrain":
            size = stage.counts.get("parameters")
            found.append(
                (f"tokens of {stage.name}", short(stage.counts["tokens"]), f"{short(size)} parameters" if size else "")
            )
    if run.stages:
        found.append(
            ("total time of all stages", seconds(sum(s.wall_seconds for s in run.stages)), f"{len(run.stages)} stages")
        )
        peak = max(run.stages, key=lambda s: s.peak_mb)
        found.append(("peak memory", megabytes(peak.peak_mb), f"in {peak.name}"))
    return found


def ledger(counts: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[tuple[str, list[str], list[list[Any]]]]]:
    """Return the counts of a stage as single values and as tables (title, columns, rows) with one row per source or
    task set."""
    plain, found = [], []
    groups: dict[str, list[list[Any]]] = {}
    for key, value in counts.items():
        if not isinstance(value, Mapping):
            plain.append((key, json.dumps(value) if isinstance(value, list) else value))
        elif value and all(isinstance(v, Mapping) for v in value.values()):
            flats = {name: flatten(v) for name, v in value.items()}
            columns = list(dict.fromkeys(c for row in flats.values() for c in row))
            rows = [[name, *(row.get(c, 0) for c in columns)] for name, row in flats.items()]
            found.append((key, ["", *columns], rows))
        else:
            flat = flatten(value)
            if flat:
                groups.setdefault(json.dumps(list(flat)), []).append([key, *flat.values()])
    found += [("", ["", *json.loads(columns)], rows) for columns, rows in groups.items()]
    return plain, found


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested counts into one row, with keys such as `rejected: duplicate`. Lists are converted to JSON."""
    flat = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            flat.update(flatten(inner, f"{name}: "))
        else:
            flat[name] = json.dumps(inner) if isinstance(inner, list) else inner
    return flat


@dataclass(frozen=True)
class TaskSet:
    """A task set as shown on the page: scores in the order of the stages, and differences between consecutive
    scores."""

    name: str
    measure: str
    """Measure that the scores report, such as `avg@8`."""
    scores: list[dict[str, Any]]
    families: list[str]
    differences: list[differences.Comparison]
    reach: float
    """Upper end of the axis of differences; the axis is symmetric around 0."""


def task_sets(run: RunView) -> list[TaskSet]:
    """Return the task sets, in the order in which they were first scored."""
    compared = differences.comparisons(run.stages)
    found = []
    for name in dict.fromkeys(s["task_set"] for s in run.scores):
        rows = [s for s in run.scores if s["task_set"] == name]
        what = ", ".join(dict.fromkeys(f"{measure(s)}@{s['k']}" for s in rows if "k" in s))
        families = list(dict.fromkeys(f for s in rows for f in s.get("per_family") or {}))
        found.append(TaskSet(name, what, rows, families, compared.get(name, []), reach(compared.get(name, []))))
    return found


def measure(score: Mapping[str, Any]) -> str:
    """Return the name of a score's measure: `avg` for the fraction of correct samples, `mean grade` for grades that a
    rule assigns."""
    return "mean grade" if score.get("measure") == "grade" else "avg"


def families_of(compared: Sequence[differences.Comparison]) -> list[str]:
    """Return the families of the comparisons, in the order of their first appearance."""
    return list(dict.fromkeys(family for one in compared for family in one.families))


def reach(compared: Sequence[differences.Comparison]) -> float:
    """Return the upper end of the axis of differences: the smallest tenth beyond all intervals."""
    ends = [abs(end) for one in compared if one.whole for end in (one.whole.low, one.whole.high)]
    return math.ceil(max(ends, default=0.0) * 10 + 1e-9) / 10 or 0.1


def versions(run: RunView) -> dict[str, str]:
    """Return the platform and package versions recorded by the last stage. The host name is omitted, because the page
    may be shared."""
    if not run.stages:
        return {}
    recorded = run.stages[-1].manifest["recorded"]
    own = {name: recorded[name] for name in ("platform", "python") if name in recorded}
    return own | dict(recorded.get("versions", {}))


def extras(row: Mapping[str, Any], shown: list[str]) -> list[tuple[str, Any]]:
    """Return the columns of a row that the page's layout does not show separately, such as grades."""
    rest = [(k, v) for k, v in row.items() if k not in shown and v is not None and v != ""]
    return [(k, v if isinstance(v, str | int | float) else json.dumps(v, ensure_ascii=False)) for k, v in rest][
        :MAX_GRADES
    ]


def calls(value: object) -> str:
    """Return the tool calls of a message as text, which is the JSON stored in conversations."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
