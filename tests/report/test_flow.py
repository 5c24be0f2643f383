from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.report.rollout_files import stage
from thinkling.report.flow import flow, pipeline, steps
from thinkling.report.read import RunView
from thinkling.report.text import wrap


@given(st.lists(st.text("ab c,", min_size=1, max_size=40), max_size=12), st.integers(5, 60))
def test_wrapping_leaves_nothing_out(parts: list[str], width: int) -> None:
    lines = wrap(parts, width)
    assert all(len(line) <= width for line in lines)
    kept = "".join(lines).replace("·", "").replace(" ", "")
    assert kept == "".join(parts).replace(" ", "")


def test_what_went_through_does_not_end_in_an_ellipsis(tmp_path: Path) -> None:
    counts = {f"count of the things named {i}": 1000 + i for i in range(12)}
    long = stage(tmp_path / "long", "sft", counts=counts)
    drawn = str(pipeline(RunView(tmp_path, {}, [long, stage(tmp_path / "short", "sft")])))
    assert "…" not in drawn
    for part in flow(long):
        assert part in drawn.replace("</text>", " ")


def test_a_row_is_as_high_as_its_lines(tmp_path: Path) -> None:
    few, many = ({f"count of the things named {i}": 1 for i in range(n)} for n in (1, 12))
    heights = []
    for counts in (few, many):
        drawn = str(pipeline(RunView(tmp_path, {}, [stage(tmp_path / "one", "sft", counts=counts)])))
        heights.append(float(drawn.split('height="')[1].split('"')[0]))
    assert heights == [34 + 48 + 8, 34 + 16 * 13 + 8]


def test_the_list_names_what_a_stage_read(tmp_path: Path) -> None:
    read = {"model": {"artifact": "sft-1"}, "brought": {"artifact": "/elsewhere"}, "again": {"artifact": "sft-1"}}
    one = stage(tmp_path / "sft-1", "sft")
    found = steps(RunView(tmp_path, {}, [one, stage(tmp_path / "rl-1", "rl", inputs=read)]))
    assert [step["read"] for step in found] == [[], ["sft-1"]]
    assert [step["time"] for step in found] == [100, 100]
