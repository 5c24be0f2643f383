"""The tests of one problem: read once, then held against any number of programs.

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
    """What the tests are to a tester."""

    tests: Tests

    @classmethod
    def read(cls, tests: Sequence[str], setup: str = "", packages: AbstractSet[str] = frozenset()) -> Suite:
        """Reads the tests, without running them. `setup` runs after the program and before them; `packages`: what can
        be imported beside the standard library. UnreadableTests: nothing can be judged by them."""
        return cls(read(tests, setup, packages))

    def job(self, code: str, limits: Limits | None = None) -> Job:
        """The run of a program beside its tester."""
        return Job(code, tests=self.tests, limits=limits)

    def results(self, outcome: Outcome) -> tuple[bool, ...]:
        """Which tests passed in the outcome of `job`. All False where it is `unavailable`, which nobody may score."""
        return tuple(test.passed for test in outcome.tests)

    def passed(self, outcome: Outcome) -> bool:
        """Whether all tests passed. A program that ends badly after its tests (at exit, say) has passed them."""
        return all(self.results(outcome))
