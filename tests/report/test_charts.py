import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.report.charts import Scale, bins, dodge, path, scale_for, source_colours, svg, tag


def test_tags_escape_content_and_attributes() -> None:
    drawn = svg(10, 10, "<b>", tag("text", "<script>&\x1b", x=1.25, class_='"><script>'))
    root = ElementTree.fromstring(str(drawn))
    text = root[1]
    assert [e.tag.split("}")[-1] for e in root.iter()] == ["svg", "title", "text"]
    assert (text.text, text.get("class"), text.get("x")) == ("<script>&␛", '"><script>', "1.25")


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1),
    st.booleans(),
)
def test_scales_hold_their_values(values: list[float], zero: bool) -> None:
    scale = scale_for(values, 100, 0, zero)
    assert all(-1e-6 <= scale(v) <= 100 + 1e-6 for v in values)
    assert all(-1e-6 <= scale(t) <= 100 + 1e-6 for t in scale.ticks())
    assert len(scale.ticks()) <= 60


def test_ticks_are_round() -> None:
    assert Scale(0, 1, 0, 1).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(0.4, 8, 0, 1, log=True).ticks() == [0.5, 1, 2, 5]


@given(st.integers(1, 50), st.lists(st.floats(-10, 10), min_size=1, max_size=200))
def test_bins_cover_all_steps_and_keep_the_mean(n: int, values: list[float]) -> None:
    ends = [float(i + 1) for i in range(len(values))]
    found = bins(ends, values, n)
    assert found[0].begin == 0
    assert found[-1].end == ends[-1]
    assert all(a.end == b.begin for a, b in pairwise(found))
    total = math.fsum(b.mean * (b.end - b.begin) for b in found)
    assert total == pytest.approx(math.fsum(values), abs=1e-9)
    assert max(b.high for b in found) == max(values)


def test_lines_break_where_a_value_is_missing() -> None:
    assert 'd="M0.0 1.0L1.0 2.0M3.0 4.0"' in path([(0, 1), (1, 2), (2, math.nan), (3, 4)], "--s1")


def test_labels_keep_their_distance_and_order() -> None:
    assert dodge([10, 11, 50], 15, 0, 100) == [10, 25, 50]
    assert dodge([99, 98], 15, 0, 100) == [100, 85]


def test_sources_of_one_quality_share_a_hue() -> None:
    found = source_colours(["hq-a", "mq-b", "hq-c", "web"])
    assert found == {"hq-a": "--hq1", "mq-b": "--mq1", "hq-c": "--hq2", "web": "--s1"}
