"""Verifier that runs programs against tests in the sandbox. Model-written code never runs anywhere else.

The tiers and their outcomes:

- `sandbox`: the sandbox is not available on this machine, or it failed → error, which never becomes a reward.
- `tests`: the problem has no tests, or unusable ones → unverifiable; all passed → right; otherwise → wrong.
- `extract`: no program in the reply → wrong.
- `limits`: the program exceeded a limit on time, memory or output, or made a system call that only an attack would make
  → wrong.

The public and the hidden tests all have to pass.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence

from thinkling.data.reading import Reading
from thinkling.sandbox.limits import Job
from thinkling.sandbox.outcome import Outcome as Run
from thinkling.sandbox.outcome import SandboxUnavailable, Status
from thinkling.sandbox.packages import importable
from thinkling.sandbox.reading import UnreadableTests
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite
from thinkling.tasks.problem import Problem
from thinkling.verify.program_text import find_program, needed_names, with_setup
from thinkling.verify.verdict import Outcome, Verdict

MOST_WORKERS = 16
MOST_SUITES = 10_000
"""Maximum number of problems whose parsed tests are cached."""
_SAYS_NOTHING = ("AssertionError", "Gone", "_Failed", "not reached")
"""Names of errors that add no information to the fact that a test failed."""
_LIMITS = (Status.TIMEOUT, Status.MEMORY, Status.OUTPUT, Status.POLICY)
Tests = tuple[str, ...]
Key = tuple[Tests, str | None]
"""The setup code and all tests of a problem, and the program found in an answer."""


def read_program(reading: Reading, tests: Sequence[str] = ()) -> str | None:
    """Return the program in an answer, or None. If there are several pieces of code, the names that the tests use
    determine which of them form the program (see program_text.py)."""
    return None if reading.answer is None else find_program(reading.answer, needed_names(tests))


class ProgramVerifier:
    """Judges programs by their problems' tests. Safe to use from several threads.

    `sandbox`: the sandbox to use. By default, a sandbox with one worker per core is opened for the first program and
    stays open.
    """

    needs_sandbox = True

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._sandbox = sandbox
        self._suites: OrderedDict[Tests, Suite | UnreadableTests] = OrderedDict()
        self._lock = threading.Lock()
        self._packages = frozenset[str]()

    def use(self, packages: Collection[str]) -> None:
        """Set the packages (numpy, sympy) for the default sandbox. If a sandbox with different packages is open, it is
        closed. Do not call this method while programs are being judged."""
        with self._lock:
            if self._sandbox is not None and self._sandbox.packages != importable(packages):
                self._sandbox.close()
                self._sandbox = None
            if self._packages != frozenset(packages):
                self._suites.clear()  # whether tests can be parsed depends on the modules that they can import
            self._packages = frozenset(packages)

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        """Judge one answer. Use `verify_many` to judge many answers in parallel."""
        return self.verify_many([(problem, reading)])[0]

    def run_many(self, jobs: Sequence[Job]) -> list[Run]:
        """Run jobs in this verifier's sandbox. Raises SandboxUnavailable if the sandbox cannot be opened."""
        return self._open().run_many(jobs)

    def verify_many(self, samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        """Return a verdict for each problem and reading, in order. Identical programs for the same tests run once."""
        keys = [_key(problem, reading) for problem, reading in samples]
        try:
            verdicts = self._judge(list(dict.fromkeys(keys)))
        except SandboxUnavailable as error:
            return [Verdict(Outcome.ERROR, "sandbox", str(error))] * len(samples)
        return [verdicts[key] for key in keys]

    def _judge(self, keys: Sequence[Key]) -> dict[Key, Verdict]:
        verdicts: dict[Key, Verdict] = {}
        programs: dict[Key, str] = {}
        for tests, code in keys:
            if not tests:
                verdicts[tests, code] = Verdict(Outcome.UNVERIFIABLE, "tests", "the problem has no tests")
            elif code is None:
                verdicts[tests, code] = Verdict(Outcome.WRONG, "extract", "no readable program")
            else:
                programs[tests, code] = code
        if not programs:
            return verdicts
        suites = self._read(list(dict.fromkeys(tests for tests, _ in programs)))
        runs: list[tuple[Key, Suite, Job]] = []
        for key, code in programs.items():
            suite = suites[key[0]]
            if isinstance(suite, Suite):
                runs.append((key, suite, suite.job(code)))
            else:
                verdicts[key] = Verdict(Outcome.UNVERIFIABLE, "tests", str(suite))
        outcomes = self._open().run_many([job for _, _, job in runs]) if runs else []
        return verdicts | {key: _verdict(suite, run) for (key, suite, _), run in zip(runs, outcomes, strict=True)}

    def why_unverifiable(self, problem: Problem) -> str:
        """Return the reason why a problem's tests cannot judge any program; empty if the tests can judge programs. No
        code is run, and no sandbox is needed."""
        tests = _tests(problem)
        suite = self._read([tests])[tests]
        return suite.reason if isinstance(suite, UnreadableTests) else ""

    def _read(self, wanted: Sequence[Tests]) -> dict[Tests, Suite | UnreadableTests]:
        packages = self._sandbox.packages if self._sandbox else importable(self._packages)
        with self._lock:
            for tests in wanted:
                if tests not in self._suites:
                    self._suites[tests] = _suite(tests, packages)
            found = {tests: self._suites[tests] for tests in wanted}
            while len(self._suites) > MOST_SUITES:
                self._suites.popitem(last=False)
        return found

    def _open(self) -> Sandbox:
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(
                    workers=min(MOST_WORKERS, len(os.sched_getaffinity(0))), packages=self._packages
                )
            return self._sandbox


def _tests(problem: Problem) -> Tests:
    """Return the setup code and all tests of a problem."""
    return (problem.setup, *problem.tests, *problem.hidden_tests)


def _key(problem: Problem, reading: Reading) -> Key:
    tests = _tests(problem)
    code = read_program(reading, tests)
    return tests if problem.tests or problem.hidden_tests else (), code and with_setup(problem.setup, code)


def _suite(tests: Tests, packages: frozenset[str]) -> Suite | UnreadableTests:
    try:
        return Suite.read(tests[1:], setup=tests[0], packages=packages)
    except UnreadableTests as error:
        return error


def _verdict(suite: Suite, run: Run) -> Verdict:
    if run.status is Status.UNAVAILABLE:
        return Verdict(Outcome.ERROR, "sandbox", run.detail)
    results = suite.results(run)
    if all(results):
        return Verdict(Outcome.RIGHT, "tests", f"{len(results)} tests passed")
    if run.status in _LIMITS:
        return Verdict(Outcome.WRONG, "limits", f"{run.status}: {run.detail}")
    errors = [run.error, *(test.error for test in run.tests if test.error not in _SAYS_NOTHING)]
    reason = next((f", {error}" for error in errors if error), "")
    return Verdict(Outcome.WRONG, "tests", f"{sum(results)} of {len(results)} tests passed{reason}")


verify = ProgramVerifier()
