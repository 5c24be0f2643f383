"""Verifier for programs that read standard input and write standard output, judged by their output in each test case.

A test is a JSON object with `input` and `output`. If the object has a third field `function`, the function with this
name is called, and the input contains the arguments: a list, or JSON text with one argument per line. Each case is a
separate run in the sandbox. The expected output never enters the program's process. The tiers and their outcomes:

- `sandbox`: the sandbox is not available on this machine, or it failed → error, which never becomes a reward.
- `tests`: the problem has no tests, or malformed ones → unverifiable; all passed → right; otherwise → wrong.
- `extract`: no program in the reply → wrong.
- `limits`: the program exceeded a limit on time, memory or output, or made a system call that only an attack would make
  → wrong.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thinkling.data.reading import Reading
from thinkling.sandbox.limits import Job
from thinkling.sandbox.outcome import Outcome as Run
from thinkling.sandbox.outcome import SandboxUnavailable, Status
from thinkling.tasks.problem import Problem
from thinkling.verify import program
from thinkling.verify.program_text import find_program
from thinkling.verify.python_text import Code
from thinkling.verify.verdict import Outcome, Verdict

TOLERANCE = 1e-6
"""Absolute and relative tolerance for expected numbers written with a decimal point or an exponent."""
FIRST_CASES, GROWTH = 1, 4
"""Number of cases in the first wave of runs, and the factor by which waves grow. Programs that failed a case are not
run in later waves."""
_DECIMAL = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LIMITS = (Status.TIMEOUT, Status.MEMORY, Status.OUTPUT, Status.POLICY)
# The imports that LiveCodeBench puts before every solution. Its starter code uses `List` without importing it.
_SETUP = "\n".join(
    [
        "import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys",
        *(f"from {name} import *" for name in ("typing", "collections", "heapq", "bisect", "itertools", "functools")),
        "from math import *",
        "from builtins import *",
    ]
)
# Expected values from JSON contain lists, but a function may return tuples.
_PLAIN = """
def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value
"""


class UnreadableCases(ValueError):
    """Raised if the tests of a problem are not valid cases."""


@dataclass(frozen=True)
class Case:
    """An input and the expected output. `function`: name of the function to call; empty for a program with standard
    input."""

    given: Any
    wanted: Any
    function: str = ""


def same_output(wanted: str, printed: str) -> bool:
    """Whether a program printed the expected output. The comparison ignores trailing whitespace, the amount of
    whitespace between words, empty lines and the kind of newline. A number may differ by 1e-6 if the expected number
    has a decimal point or an exponent."""
    if wanted == printed:
        return True
    lines = [[line.split() for line in text.splitlines() if line.strip()] for text in (wanted, printed)]
    return len(lines[0]) == len(lines[1]) and all(
        len(left) == len(right) and all(map(_same_word, left, right)) for left, right in zip(*lines, strict=True)
    )


def _same_word(wanted: str, printed: str) -> bool:
    if wanted == printed:
        return True
    if not _DECIMAL.fullmatch(wanted) or not _NUMBER.fullmatch(printed):
        return False
    expected = float(wanted)
    return abs(float(printed) - expected) <= TOLERANCE * max(1.0, abs(expected))


def read_cases(tests: Sequence[str]) -> tuple[Case, ...]:
    """Parse tests. Raises UnreadableCases if a test is malformed, or if the tests call different functions."""
    cases = tuple(map(_case, tests))
    if not cases:
        raise UnreadableCases("the problem has no tests")
    if len({case.function for case in cases}) > 1:
        raise UnreadableCases("its tests do not all call the same function")
    return cases


def _case(test: str) -> Case:
    try:
        found = json.loads(test)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping) or not {"input", "output"} <= set(found):
        raise UnreadableCases('a test is not JSON of the form {"input": …, "output": …}')
    given, wanted, function = found["input"], found["output"], found.get("function", "")
    if function == "":
        return Case(_text(given), _text(wanted))
    if not isinstance(function, str) or not function.isidentifier():
        raise UnreadableCases("the function of a test is not a name")
    try:
        if isinstance(given, str):  # in LiveCodeBench, JSON text with one argument per line, and a result in JSON
            given = [json.loads(line) for line in given.split("\n") if line.strip()]
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
        ast.literal_eval(repr((given, wanted)))  # raises ValueError if a number is infinite
    except (ValueError, RecursionError):
        raise UnreadableCases("the input or output of a function's test is not JSON") from None
    if not isinstance(given, list):
        raise UnreadableCases("the input of a function's test is not a list of arguments")
    return Case(given, wanted, function)


def _text(value: Any) -> str:
    """Return the text, joining a list of lines, as in some APPS records."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise UnreadableCases("the input or output of a test is not text")
    return value


@dataclass
class _Trial:
    """The progress of a program through its cases."""

    code: str
    cases: tuple[Case, ...]
    passed: int = 0
    verdict: Verdict | None = None


class StdinStdoutVerifier:
    """Judges programs by their test cases. Safe to use from several threads."""

    needs_sandbox = True

    def __init__(self, programs: program.ProgramVerifier) -> None:
        """`programs`: the verifier that provides the sandbox and judges functions."""
        self._programs = programs

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        return self.verify_many([(problem, reading)])[0]

    def why_unverifiable(self, problem: Problem) -> str:
        """Return the reason why a problem's tests cannot judge any program; empty if the tests can judge programs."""
        try:
            read_cases((*problem.tests, *problem.hidden_tests))
        except UnreadableCases as error:
            return str(error)
        return ""

    def verify_many(self, samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        """Return a verdict for each problem and reading, in order. The cases of all programs run in parallel on the
        sandbox's workers. A program that has failed a case is not run again."""
        trials: dict[tuple[tuple[str, ...], str | None], _Trial | Verdict] = {}
        keys = [((*problem.tests, *problem.hidden_tests), reading.answer) for problem, reading in samples]
        for tests, answer in dict.fromkeys(keys):
            trials[tests, answer] = _trial(tests, answer)
        running = [trial for trial in trials.values() if isinstance(trial, _Trial)]
        try:
            self._run([trial for trial in running if not trial.cases[0].function])
            self._call([trial for trial in running if trial.cases[0].function])
        except SandboxUnavailable as error:
            return [Verdict(Outcome.ERROR, "sandbox", str(error))] * len(samples)
        found = {key: trial.verdict if isinstance(trial, _Trial) else trial for key, trial in trials.items()}
        return [verdict for key in keys if (verdict := found[key]) is not None]

    def _run(self, trials: Sequence[_Trial]) -> None:
        wave = FIRST_CASES
        while left := [trial for trial in trials if trial.verdict is None]:
            turns = [(trial, case) for trial in left for case in trial.cases[trial.passed : trial.passed + wave]]
            runs = self._programs.run_many([Job(trial.code, stdin=case.given) for trial, case in turns])
            for (trial, case), run in zip(turns, runs, strict=True):
                if trial.verdict is None:
                    _take(trial, case, run)
            wave *= GROWTH

    def _call(self, trials: Sequence[_Trial]) -> None:
        """Judge functions with the verifier of program.py, whose tests compare the returned values. APPS wraps the
        results of some problems in a list; failed programs are therefore judged again by the value in the list."""
        self._judge(trials, [trial.cases for trial in trials])
        wrong = [trial for trial in trials if trial.verdict and trial.verdict.outcome is Outcome.WRONG]
        boxed = [t for t in wrong if all(isinstance(c.wanted, list) and len(c.wanted) == 1 for c in t.cases)]
        self._judge(boxed, [tuple(replace(case, wanted=case.wanted[0]) for case in trial.cases) for trial in boxed])

    def _judge(self, trials: Sequence[_Trial], cases: Sequence[tuple[Case, ...]]) -> None:
        samples = [
            (_called(trial.code, wanted), Reading.of(trial.code)) for trial, wanted in zip(trials, cases, strict=True)
        ]
        for trial, verdict in zip(trials, self._programs.verify_many(samples), strict=True):
            trial.verdict = verdict


def _trial(tests: tuple[str, ...], answer: str | None) -> _Trial | Verdict:
    try:
        cases = read_cases(tests)
    except UnreadableCases as error:
        return Verdict(Outcome.UNVERIFIABLE, "tests", str(error))
    function = cases[0].function
    code = None if answer is None else find_program(answer, {function, "Solution"} if function else ())
    return Verdict(Outcome.WRONG, "extract", "no readable program") if code is None else _Trial(code, cases)


def _take(trial: _Trial, case: Case, run: Run) -> None:
    """Record the result of one case."""
    ended = run.status is Status.OK or (run.status is Status.ERROR and run.error == "SystemExit")
    if run.status is Status.UNAVAILABLE:
        trial.verdict = Verdict(Outcome.ERROR, "sandbox", run.detail)
    elif run.status in _LIMITS:
        trial.verdict = Verdict(Outcome.WRONG, "limits", f"{run.status}: {run.detail}")
    elif not ended or not same_output(case.wanted, run.stdout):
        reason = "" if ended else f", {run.detail}"
        detail = f"test {trial.passed + 1} of {len(trial.cases)} failed{reason}"
        trial.verdict = Verdict(Outcome.WRONG, "tests", detail)
    else:
        trial.passed += 1
        if trial.passed == len(trial.cases):
            trial.verdict = Verdict(Outcome.RIGHT, "tests", f"{trial.passed} tests passed")


def _called(code: str, cases: tuple[Case, ...]) -> Problem:
    """Convert the cases of a function to tests of a program. If the class `Solution` has a method with this name, the
    tests call the method."""
    function = cases[0].function
    name = f"Solution().{function}" if _is_method(code, function) else function
    asserts = [f"assert _plain({name}({', '.join(map(repr, case.given))})) == {case.wanted!r}" for case in cases]
    return Problem("", "", "", "", "", "program", hidden_tests=(_PLAIN, *asserts), setup=_SETUP)


def _is_method(code: str, function: str) -> bool:
    found = Code.of(code)
    return found is not None and any(
        isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name == function
        for node in found.tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Solution"
        for part in node.body
    )


verify = StdinStdoutVerifier(program.verify)
