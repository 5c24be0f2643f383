"""Names of verifiers, built in and from entry points."""

import dataclasses
from importlib.metadata import EntryPoint

import pytest

from thinkling import plugins
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify import registry
from thinkling.verify.verdict import Outcome, Verdict

PROBLEM = Problem("0", "sort", "sort 312", "123", "1<2<3", "exact")


def always_right(problem: Problem, reading: Reading) -> Verdict:
    return Verdict(Outcome.RIGHT, "always", problem.id + str(reading.answer))


def broken(problem: Problem, reading: Reading) -> Verdict:
    raise RuntimeError("no good")


@pytest.fixture(autouse=True)
def fresh_names(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = plugins.Registry("verifier", registry.GROUP, registry.VERIFIERS.built_in)
    monkeypatch.setattr(registry, "VERIFIERS", fresh)


def offer(monkeypatch: pytest.MonkeyPatch, **points: object) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            loaded = points[self.name]
            if isinstance(loaded, Exception):
                raise loaded
            return loaded

    found = [Point(name, f"plugin:{name}", registry.GROUP) for name in points]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == registry.GROUP else [])


def with_verifier(name: str) -> Problem:
    return dataclasses.replace(PROBLEM, verifier=name)


def test_built_in() -> None:
    assert registry.verify(PROBLEM, Reading.of("123")).outcome is Outcome.RIGHT
    assert registry.verify(PROBLEM, Reading.of("132")).outcome is Outcome.WRONG


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, always=always_right)
    assert registry.verify(with_verifier("always"), Reading.of("x")) == Verdict(Outcome.RIGHT, "always", "0x")


def test_a_verifier_that_raises_is_an_error_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, broken=broken)
    verdict = registry.verify(with_verifier("broken"), Reading.of("x"))
    assert (verdict.outcome, verdict.detail) == (Outcome.ERROR, "RuntimeError: no good")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, always=always_right)
    with pytest.raises(
        UserError,
        match=r"unknown verifier 'physics'; use one of exact, maths, maths-last-number, program, choice, .*, always;",
    ):
        registry.verify(with_verifier("physics"), Reading.of("x"))


def test_a_built_in_name_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, exact=always_right)
    with pytest.raises(UserError, match=r"'exact' is defined more than once; rename the entry point plugin:exact"):
        registry.verify(PROBLEM, Reading.of("132"))


def test_a_plugin_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, lost=ImportError("no module"))
    with pytest.raises(UserError, match=r"verifier 'lost': plugin:lost cannot be loaded \(no module\)"):
        registry.verify(with_verifier("lost"), Reading.of("x"))


class Grader:
    needs_sandbox = True

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        return Verdict(Outcome.WRONG, "grader")

    def grade(self, problem: Problem, reading: Reading) -> float:
        return 0.25


def test_a_verifier_says_whether_it_grades_and_needs_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, grader=Grader(), always=always_right)
    assert registry.needs_sandbox("grader")
    assert not registry.needs_sandbox("always")
    found = registry.grader("grader")
    assert found is not None
    assert found(PROBLEM, Reading.of("1")) == 0.25
    assert registry.grader("always") is None
