"""Programs that read standard input, judged by what they print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from thinkling.data.reading import Reading
from thinkling.sandbox.kernel import missing_feature
from thinkling.sandbox.outcome import SandboxUnavailable
from thinkling.sandbox.sandbox import Sandbox
from thinkling.tasks.problem import Problem
from thinkling.verify import registry, stdin_stdout
from thinkling.verify.program import ProgramVerifier
from thinkling.verify.stdin_stdout import StdinStdoutVerifier, read_cases, same_output
from thinkling.verify.verdict import Outcome


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        ("1 2\n", "1 2"),
        ("1\n2\n", "1 \r\n2\t\r\n\n"),
        ("a  b", "a b"),
        ("0.5", "0.5000004"),
        ("1000000.0", "1000000.9"),
        ("1e6", "1000000"),
        ("2.0", "2"),
        ("", "\n"),
    ],
)
def test_outputs_that_are_the_same(wanted: str, printed: str) -> None:
    assert same_output(wanted, printed)


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        ("YES", "Yes"),
        ("2", "2.0"),
        ("2", "2.0000001"),
        ("0.5", "0.500002"),
        ("1.0", "nan"),
        ("1.0", "inf"),
        ("1 2", "1\n2"),
        ("1 2", "12"),
        ("1", ""),
        ("", "1"),
        ("1.0", "1_0"),
        ("1 2 3", "1 2"),
    ],
)
def test_outputs_that_differ(wanted: str, printed: str) -> None:
    assert not same_output(wanted, printed)


@pytest.fixture(scope="module")
def verifier() -> Iterator[StdinStdoutVerifier]:
    if lacking := missing_feature():
        pytest.skip(lacking)
    with Sandbox() as sandbox:
        yield StdinStdoutVerifier(ProgramVerifier(sandbox))


def problem(*cases: tuple[Any, Any], function: str = "") -> Problem:
    named = {"function": function} if function else {}
    tests = [json.dumps({"input": given, "output": wanted, **named}) for given, wanted in cases]
    return Problem("p", "f", "", "", "", "stdin-stdout", tests=tuple(tests[:1]), hidden_tests=tuple(tests[1:]))


ADD = problem(("1 2\n", "3\n"), ("5 6\n", "11\n"))


@pytest.mark.parametrize(
    "program",
    [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
        "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))",
        "print(sum(map(int, open(0).read().split())))",
        "import sys\nfor line in sys.stdin:\n    sys.stdout.write(str(sum(map(int, line.split()))) + '\\n')",
        "def main():\n    print(sum(map(int, input().split())))\n\nif __name__ == '__main__':\n    main()",
        "import sys\nprint(sum(map(int, input().split())))\nsys.exit()",
        "import sys\nprint(sum(map(int, input().split())))\nsys.exit(1)",
        "import os\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)",
    ],
)
def test_ways_of_reading_and_of_ending(verifier: StdinStdoutVerifier, program: str) -> None:
    verdict = verifier(ADD, Reading.of(f"It adds.\n```python\n{program}\n```\nFor `1 2`:\n```\n3\n```"))
    assert (verdict.outcome, verdict.detail) == (Outcome.RIGHT, "2 tests passed")


@pytest.mark.parametrize(
    ("program", "tier", "detail"),
    [
        ("print(3)", "tests", "test 2 of 2 failed"),
        ("print(sum(map(int, input().split())))\nraise ValueError", "tests", "test 1 of 2 failed, ValueError"),
        ("while True: pass", "limits", "timeout: more than"),
        ("print(open('/etc/passwd').read())", "tests", "test 1 of 2 failed, PermissionError"),
        ("I would add them.", "extract", "no readable program"),
    ],
)
def test_wrong_programs(verifier: StdinStdoutVerifier, program: str, tier: str, detail: str) -> None:
    verdict = verifier(ADD, Reading.of(program))
    assert (verdict.outcome, verdict.tier) == (Outcome.WRONG, tier)
    assert verdict.detail.startswith(detail)


def test_the_expected_output_is_not_in_the_process(verifier: StdinStdoutVerifier) -> None:
    search = (
        "import gc, sys\n"
        "wanted = ''.join(reversed('456789'))\n"
        "found = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple)) and wanted in map(str, o)]\n"
        "print(wanted if found else 0)"
    )
    assert verifier(problem(("1", "987654")), Reading.of(search)).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("def add(a, b):\n    return a + b", Outcome.RIGHT),
        ("class Solution:\n    def add(self, a, b):\n        return a + b", Outcome.RIGHT),
        ("class Solution:\n    def add(self, a: List[int], b) -> Optional[int]:\n        return a + b", Outcome.RIGHT),
        ("def add(a, b):\n    return a - b", Outcome.WRONG),
        ("def plus(a, b):\n    return a + b", Outcome.WRONG),
    ],
)
def test_functions_are_called_and_compared_by_value(verifier: StdinStdoutVerifier, code: str, outcome: Outcome) -> None:
    reading = Reading.of(f"```python\n{code}\n```")
    livecodebench = problem(("1\n2", "3"), ("[1]\n[2]", "[1, 2]"), function="add")
    apps = problem(([1, 2], [3]), ([4, 5], [9]), function="add")  # results in lists, as Codewars' are
    plain = problem(([1, 2], 3), function="add")
    verdicts = verifier.verify_many([(livecodebench, reading), (apps, reading), (plain, reading)])
    assert [v.outcome for v in verdicts] == [outcome] * 3


def test_a_tuple_is_a_list_in_json(verifier: StdinStdoutVerifier) -> None:
    pair = problem(("1\n2", "[[1, 2]]"), function="pair")
    assert verifier(pair, Reading.of("def pair(a, b):\n    return [(a, b)]")).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ((), "no tests"),
        (("assert f(1) == 2",), "not JSON"),
        (('{"input": 3, "output": "3"}',), "not text"),
        (('{"input": "1", "output": "2"}', '{"input": "1", "output": "2", "function": "f"}'), "same function"),
        (('{"input": "a b", "output": "2", "function": "f"}',), "not JSON"),
        (('{"input": [Infinity], "output": 2, "function": "f"}',), "not JSON"),
        (('{"input": {"a": 1}, "output": 2, "function": "f"}',), "not a list"),
        (('{"input": "1", "output": "2", "function": "f()"}',), "not a name"),
    ],
)
def test_tests_that_cannot_be_read(tests: tuple[str, ...], reason: str) -> None:
    verifier = StdinStdoutVerifier(ProgramVerifier())
    unreadable = Problem("p", "f", "", "", "", "stdin-stdout", hidden_tests=tests)
    verdict = verifier(unreadable, Reading.of("print(2)"))
    assert (verdict.outcome, verdict.tier) == (Outcome.UNVERIFIABLE, "tests")
    assert reason in verdict.detail
    assert verifier.why_unverifiable(unreadable) == verdict.detail


def test_lines_of_input_in_a_list() -> None:
    assert read_cases(['{"input": ["1", "2"], "output": ["3"]}'])[0].given == "1\n2"


def test_verdicts_keep_the_order_of_the_samples(verifier: StdinStdoutVerifier) -> None:
    right, wrong = Reading.of("print(sum(map(int, input().split())))"), Reading.of("print(input())")
    samples = [(ADD, wrong), (ADD, right), (problem(), right), (ADD, wrong)]
    assert [v.outcome for v in verifier.verify_many(samples)] == ["wrong", "right", "unverifiable", "wrong"]


def test_no_sandbox_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise SandboxUnavailable("sandbox: this kernel has no Landlock")

    monkeypatch.setattr(Sandbox, "__init__", refuse)
    verdict = StdinStdoutVerifier(ProgramVerifier())(ADD, Reading.of("print(1)"))
    assert (verdict.outcome, verdict.tier) == (Outcome.ERROR, "sandbox")


def test_the_registry_knows_it() -> None:
    assert registry.resolve("stdin-stdout") is stdin_stdout.verify
    assert registry.needs_sandbox("stdin-stdout")
