"""The tests of one problem, which are parsed once and can then judge any number of programs.

suite = Suite.read(["assert add(1, 2) == 3"])
suite.passed(sandbox.run_job(suite.job("def add(a, b): return a + b")))
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from thinkling.sandbox.limits import Job, Limits, Tests
from thinkling.sandbox.outcome import Outcome
from thinkling.sandbox.reading import read


@dataclass(frozen=True)
class Suite:
    """The parsed tests of one problem, in the form that a tester needs."""

    tests: Tests

    @classmethod
    def read(cls, tests: Sequence[str], setup: str = "", packages: AbstractSet[str] = frozenset()) -> Suite:
        """Parse tests without running them. `setup`: code that is run after the program and before the tests;
        `packages`: modules that are available in addition to the standard library. Raises UnreadableTests if the tests
        cannot judge any program."""
        return cls(read(tests, setup, packages))

    def job(self, code: str, limits: Limits | None = None) -> Job:
        """Return the job for a program and its tester."""
        return Job(code, tests=self.tests, limits=limits)

    def results(self, outcome: Outcome) -> tuple[bool, ...]:
        """Return whether each test passed in the outcome of `job`. All are False if the outcome is `unavailable`, which
        must not be scored."""
        return tuple(test.passed for test in outcome.tests)

    def passed(self, outcome: Outcome) -> bool:
        """Whether all tests passed. A failure of the program after its tests, such as at exit, does not count."""
        return all(self.results(outcome))
