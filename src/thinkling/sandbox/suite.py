"""The tests of one problem: read once, then held against any number of programs.

suite = Suite.read(sandbox, ["assert add(1, 2) == 3"])
suite.passed(sandbox.run_job(suite.job("def add(a, b): return a + b")))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinkling.sandbox.assertions import Check
from thinkling.sandbox.limits import Job, Limits, Step
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable, Status
from thinkling.sandbox.sandbox import Sandbox


class UnreadableTests(Exception):
    """Tests that are no Python, or that do not end: nothing can be judged by them, whatever the program."""


@dataclass(frozen=True)
class Suite:
    """`setup` runs after the program and before the tests. `checks`: those of each test."""

    setup: str
    checks: tuple[tuple[Check, ...], ...]

    @classmethod
    def read(cls, sandbox: Sandbox, tests: Sequence[str], setup: str = "", limits: Limits | None = None) -> Suite:
        """Takes the tests apart in a run without a program, which gives the expected values. UnreadableTests;
        SandboxUnavailable: the sandbox failed."""
        if not tests:
            raise UnreadableTests("there are no tests")
        steps = (Step("run", setup), *(Step("read", test) for test in tests))
        outcome = sandbox.run("", steps=steps, limits=limits)
        if outcome.status is Status.UNAVAILABLE:
            raise SandboxUnavailable(f"sandbox: {outcome.detail}")
        # The setup may need the program's names, and then fails here: what needs it is not evaluated without it.
        for test, found in zip(tests, outcome.steps[1:], strict=True):
            if not found.checks:
                reason = found.shown or f"{outcome.status}: {outcome.detail or 'nothing to check'}"
                raise UnreadableTests(f"{test[:80]!r}: {reason}")
        return cls(setup, tuple(found.checks for found in outcome.steps[1:]))

    def job(self, code: str, limits: Limits | None = None) -> Job:
        """The run of a program: its setup and its calls, without any expected value."""
        calls = (Step(check.kind, check.source) for checks in self.checks for check in checks)
        return Job(code, steps=(Step("run", self.setup), *calls), limits=limits)

    def results(self, outcome: Outcome) -> tuple[bool, ...]:
        """Which tests passed in the outcome of `job`. All False where it is `unavailable`, which nobody may score."""
        reports = iter(outcome.steps[1:])
        found = [[(check, next(reports)) for check in checks] for checks in self.checks]
        return tuple(
            all(report.ran and check.expected in (None, report.text) for check, report in pairs) for pairs in found
        )

    def passed(self, outcome: Outcome) -> bool:
        """Whether all tests passed. A program that ends badly after its tests (at exit, say) has passed them."""
        return all(self.results(outcome))
