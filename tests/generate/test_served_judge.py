"""A served judge: verdicts in both orders, and what is no verdict."""

from __future__ import annotations

import pytest

from tests.generate.fake_server import serving
from thinkling.generate.backends import Reply
from thinkling.generate.client import ServedModel
from thinkling.generate.config import ServerConfig
from thinkling.generate.pairwise import Comparison
from thinkling.generate.pairwise_forms import WORDS
from thinkling.generate.served_judge import ServedJudge, read_verdict
from thinkling.verify.preference import LOWEST


def judge(url: str) -> ServedJudge:
    return ServedJudge(ServedModel(ServerConfig(url=url, model="m")), WORDS, 16)


def longer(number: int, body: object) -> str:
    """The longer answer is better; of equals the first place is, and what is `odd` gets no verdict."""
    assert isinstance(body, dict)
    text = body["messages"][0]["content"]
    first = text.partition("<answer_1>\n")[2].partition("\n</answer_1>")[0]
    second = text.partition("<answer_2>\n")[2].partition("\n</answer_2>")[0]
    if "odd" in (first, second):
        return "I like both."
    return "1" if len(first) >= len(second) else "2"


def test_an_answer_preferred_in_both_orders_wins_and_places_cancel() -> None:
    asked = [("longer one", "short"), ("short", "longer one"), ("abc", "xyz"), ("odd", "short"), (None, "short")]
    with serving(longer) as server:
        made = judge(server.url)
        found = made.prefer([Comparison("q", answer, reference) for answer, reference in asked])
        assert len(server.bodies) == 6, "both orders of three different pairs; equal questions are asked once"
    assert [p.reward for p in found] == pytest.approx([1.0, 0.0, 0.5, 0.5, 0.0])
    assert [p.consistent for p in found[:3]] == [True, True, False]
    assert found[4] == LOWEST
    assert made.readings.counts()["judge"] == {"asked": 6, "read": 4, "unreadable": {"no verdict": 2}}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("1", 0), ("2", 1), (" **2**. ", 1), ("`1`", 0), ("12", None), ("1 or 2", None), ("", None), ("Answer 1", None)],
)
def test_verdicts_are_read_strictly(text: str, verdict: int | None) -> None:
    assert read_verdict(Reply(text), WORDS) == verdict
    assert read_verdict(Reply(text, finish_reason="length"), WORDS) is None
