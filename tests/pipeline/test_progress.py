"""What a long step shows: amounts, rate and time left, in a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from thinkling.pipeline import progress
from thinkling.pipeline.progress import TerminalProgress
from thinkling.progress import tracked


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_has_amount_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream, width=120)).track("curate: web", 4000, "documents") as task:
        clock.now = 25
        task.advance(1000)
        clock.now = 26
        task.advance(1000)
    assert stream.getvalue() == "  curate: web: 1000/4000 documents, 40/s, 75 s left  \n"


def test_a_total_that_was_estimated_too_low_is_not_shown(clock: Clock) -> None:
    """`1200/1000 documents, 0 s left` would be wrong for the rest of the step."""
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream, width=120)).track("curate: web", 1000, "documents") as task:
        clock.now = 30
        task.advance(1200)
    assert stream.getvalue() == "  curate: web: 1200 documents, 40/s  \n"


def redrawn(task: object) -> None:
    """The terminal shows the bars several times a second; here at once."""
    assert isinstance(task, progress._RichTask)
    task.bars.refresh()


def test_bars_in_a_terminal_nest() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    shown = TerminalProgress(console)
    with shown.track("refine", 10, "jobs") as jobs:
        with shown.track("stages.refine.reviser", 5, "replies") as replies:
            replies.advance(5)
            redrawn(replies)
        jobs.advance(10)
        redrawn(jobs)
    with shown.track("sft", 3, "tokens") as tokens:
        tokens.advance(4)
    text = stream.getvalue()
    assert "refine" in text
    assert "stages.refine.reviser" in text
    assert "5/5 replies" in text
    assert "10/10 jobs" in text
    assert "4 tokens" in text
    assert "4/3" not in text


def test_a_bar_ends_with_what_it_is_about() -> None:
    shown = TerminalProgress(Console(file=io.StringIO(), force_terminal=True, width=120))
    assert list(tracked("abc", shown, "letters", 3, "letters")) == ["a", "b", "c"]
    with pytest.raises(KeyError), shown.track("outer", 1, "steps"), shown.track("inner", 1, "steps"):
        raise KeyError
    with shown.track("again", 1, "steps") as task:
        task.advance()
