"""Names of verifiers, built in and from entry points."""

import dataclasses
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify import registry
from thinkling.verify.verdict import Outcome, Verdict

PROBLEM = Problem("0", "sort", "sort 312", "123", "1<2<3", "exact")


def always_right(problem: Problem, completion: str) -> Verdict:
    return Verdict(Outcome.RIGHT, "always", problem.id + completion)


def broken(problem: Problem, completion: str) -> Verdict:
    raise RuntimeError("no good")


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    registry.resolve.cache_clear()
    yield
    registry.resolve.cache_clear()


def offer(monkeypatch: pytest.MonkeyPatch, **points: object) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            loaded = points[self.name]
            if isinstance(loaded, Exception):
                raise loaded
            return loaded

    found = [Point(name, f"plugin:{name}", registry.GROUP) for name in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.GROUP else [])


def with_verifier(name: str) -> Problem:
    return dataclasses.replace(PROBLEM, verifier=name)


def test_built_in() -> None:
    assert registry.verify(PROBLEM, "123").outcome is Outcome.RIGHT
    assert registry.verify(PROBLEM, "132").outcome is Outcome.WRONG


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, always=always_right)
    assert registry.verify(with_verifier("always"), "x") == Verdict(Outcome.RIGHT, "always", "0x")


def test_a_verifier_that_raises_is_an_error_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, broken=broken)
    verdict = registry.verify(with_verifier("broken"), "x")
    assert (verdict.outcome, verdict.detail) == (Outcome.ERROR, "RuntimeError: no good")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, always=always_right)
    with pytest.raises(
        UserError, match=r"unknown verifier 'physics'; there are exact, calculator, maths, maths-last-number, .*always"
    ):
        registry.verify(with_verifier("physics"), "x")


def test_a_built_in_name_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, exact=always_right)
    with pytest.raises(UserError, match=r"'exact' is defined more than once; rename the entry point plugin:exact"):
        registry.verify(PROBLEM, "132")


def test_a_plugin_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, lost=ImportError("no module"))
    with pytest.raises(UserError, match=r"verifier 'lost': plugin:lost cannot be loaded \(no module\)"):
        registry.verify(with_verifier("lost"), "x")
