"""Every table of the terminal at 80 columns: no number is cut, and the mean can be read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from thinkling.pipeline import doctor, plan, summary
from thinkling.pipeline.clean import Left
from thinkling.pipeline.clean import table as clean_table
from thinkling.pipeline.packaged import packaged
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run

NUMBER = re.compile(r"\d[\d.,:]*(?:e[+-]?\d+)?%?")


def printed(*things: Any, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    for thing in things:
        console.print(thing)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def assert_whole(numbers: Iterable[str], text: str) -> None:
    there = NUMBER.findall(text)
    assert [number for number in numbers if number not in there] == []
    assert "…" not in text.replace("0 … 1", "")


def score(name: str, task_set: str, mean: float) -> dict[str, Any]:
    return {
        "checkpoint": name, "task_set": task_set, "renderer": "puzzle_pages", "measure": "right", "k": 8,
        "mean": mean, "low": mean / 2, "high": (1 + mean) / 2, "thinking_fraction": mean, "accuracy_thinking": mean,
    }  # fmt: skip


def test_the_mean_could_not_be_read_below_135_columns() -> None:
    entries = [score("rl_preference", "puzzles", 0.968), score("rl_code_and_more_of_it", "a_long_task_set", 0.123)]
    text = printed(summary.score_table(entries, 80))
    assert_whole(["0.968", "0.123", "0.484", "0.984", "97%", "12%"], text)
    assert "█" not in text


def test_where_there_is_room_the_bar_is_there() -> None:
    assert "█" in printed(summary.score_table([score("sft", "maths", 0.5)], 160), width=160)


@settings(max_examples=60, deadline=None)
@given(
    st.text("abcdefgh_", min_size=1, max_size=60),
    st.text("abcdefgh_", min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_no_score_is_cut_however_long_the_names(name: str, task_set: str, mean: float) -> None:
    entry = score(name, task_set, mean)
    text = printed(summary.score_table([entry], 80))
    assert_whole([f"{entry['mean']:.3f}", f"{entry['low']:.3f}", f"{entry['high']:.3f}", f"{mean:.0%}"], text)


def run_summary(n: int) -> dict[str, Any]:
    counts = {"conversations": n, "from_examples": n, "kept": n, "tokens": n * 1000, "loss_tokens": n * 977}
    rejected = {"in": n, "kept": 1, "rejected": {"duplicate": n - 1}}
    stages = [
        {"name": "sft_with_a_long_name", "wall_seconds": n / 7, "peak_rss_mb": n / 3, "counts": counts},
        {"name": "curate", "wall_seconds": 1.5, "peak_rss_mb": 300.0, "counts": rejected},
    ]  # fmt: skip
    scores = [score("sft", "maths", 0.75)]
    return {"recipe": "r", "seed": 0, "wall_seconds": n / 5, "skipped": {}, "stages": stages, "scores": scores}


def test_no_count_is_cut_and_scores_come_first() -> None:
    n = 123_456_789
    console = Console(file=StringIO(), width=80, color_system=None)
    summary.show(run_summary(n), console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    flat = text.replace(",", "")
    assert [v for v in (str(n), str(n * 1000), str(n * 977), f"{n / 7:.1f}", f"{n / 3:.0f}") if v not in flat] == []
    assert text.index("0.750") < text.index("peak MB")


def test_what_was_rejected_is_said_by_reason() -> None:
    lines = list(summary.turned_away("curate", {"in": 9, "kept": 5, "rejected": {"duplicate": 1, "not UTF-8": 3}}))
    assert lines == ["curate: 9 in, 5 kept, 4 rejected: not UTF-8 3, duplicate 1"]
    assert list(summary.turned_away("sft", {"kept": 5, "sources": {"a": {"in": 5, "kept": 5, "rejected": {}}}})) == []


def test_the_plan_of_the_3b_recipe_fits() -> None:
    recipe = load_recipe(packaged()["nanbeige4-3b"])
    one = plan.plan_pretraining(recipe, "pretrain", plan.source_sizes(recipe, "pretrain", {}))
    tables = plan.phase_tables(one, 80)
    text = printed(*tables)
    wanted = [f"{phase.tokens:,}" for phase in one.phases] + [f"{phase.steps:,}" for phase in one.phases]
    assert_whole([*wanted, "65,536", "2,048", "10000", "0.00045", "1.5e-06"], text)
    assert len(tables) == 2
    assert len(plan.phase_tables(one, 200)) == 1


def test_the_plan_of_stages_and_what_clean_lists_fit(tmp_path: Path) -> None:
    run = Run(load_recipe(packaged()["tiny"]), tmp_path)
    shown = printed(plan._stage_table(run, False))
    assert "rl_preference" in shown
    left = [Left(tmp_path / "stage_with_a_long_name_that_goes_on_for_ever-0123abcd", 123_456_789_012, "model")]
    assert_whole(["123,456.8"], printed(clean_table(run, left)))


def test_what_the_doctor_says_is_folded_not_cut() -> None:
    console = Console(file=StringIO(), width=80, color_system=None)
    assert doctor.show([doctor.Finding("disk", "note", "1234.5 GB free here, " * 9)], console)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().count("1234.5") == 9


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_scores_hold_at_any_width(width: int) -> None:
    assert_whole(["0.968", "0.484"], printed(summary.score_table([score("rl", "puzzles", 0.968)], width), width=width))
