"""A run that is killed (also inside checkpoint writes and at phase edges) and resumed equals one left alone."""

from pathlib import Path

import pytest

from benchmarks.exactness.kill_resume import EVENTS, series


def check(kills: int, workspace: Path) -> None:
    report = series(kills, seed=1, workspace=workspace)
    assert report.differing == []
    assert report.differing_bytes == 0
    assert sum(report.kills.values()) >= kills * 2 // 3, "runs ended before their kills"


def test_three_kills(tmp_path: Path) -> None:
    check(len(EVENTS), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(tmp_path: Path) -> None:
    check(20, tmp_path)
