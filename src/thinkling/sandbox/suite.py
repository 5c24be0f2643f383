"""The tests of one problem: parsed once, then applied to any number of programs.

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
    """Tests in the form that a tester needs."""

    tests: Tests

    @classmethod
    def read(cls, tests: Sequence[str], setup: str = "", packages: AbstractSet[str] = frozenset()) -> Suite:
        """Parses the tests without running them. `setup` runs after the program and before them; `packages`: what can
        be imported in addition to the standard library. UnreadableTests: they cannot judge anything."""
        return cls(read(tests, setup, packages))

    def job(self, code: str, limits: Limits | None = None) -> Job:
        """The run of a program together with its tester."""
        return Job(code, tests=self.tests, limits=limits)

    def results(self, outcome: Outcome) -> tuple[bool, ...]:
        """Which tests passed in the outcome of `job`. All False if it is `unavailable`, which must not be scored."""
        return tuple(test.passed for test in outcome.tests)

    def passed(self, outcome: Outcome) -> bool:
        """Whether all tests passed. A program that fails after its tests (at exit, say) has still passed them."""
        return all(self.results(outcome))
