import json
from pathlib import Path

import pytest

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.reading import UnreadableTests
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite


def results(sandbox: Sandbox, code: str, tests: list[str], setup: str = "") -> tuple[bool, ...]:
    suite = Suite.read(tests, setup)
    return suite.results(sandbox.run_job(suite.job(code)))


def test_tests_are_told_apart(sandbox: Sandbox) -> None:
    code = "def double(x):\n    return 2 * x"
    tests = [
        "assert double(2) == 4",
        "assert double(2) == 5, 'message'",
        "assert 6 == double(3)",
        "assert double('a') == 'a' * 2",
        "assert double(undefined) == 4",
        "assert double(3) > 5",
        "assert double(3) > 6",
        "x = double(1)\ny = x + 1\nassert x == 2\nassert y == 3",
        "x = double(1)\nassert x == 3",
        "import math\nassert math.isclose(double(0.1), 0.2)",
        "double(1)",
        "double()",
        "assert double(double(1)) == double(2)",
        "for i in range(3):\n    assert double(i) == i + i",
        "for i in range(3):\n    assert double(i) == i",
    ]
    expected = (True, False, True, True, False, True, False, True, False, True, True, False, True, True, False)
    assert results(sandbox, code, tests) == expected


def test_expected_values_do_not_enter_the_programs_run(sandbox: Sandbox) -> None:
    """What the program's process is told of the tests: the definitions of the set-up, and no test."""
    suite = Suite.read(["assert f(3) == 123456", "assert [7, 89] == f(4)"], "import math\nX = 77\nclass A: pass")
    assert suite.tests.prelude == "import math\nclass A:\n    pass"
    search = """
import gc
held = [value for value in gc.get_objects() if isinstance(value, (str, list, tuple, dict, bytes))]
found = [repr(value)[:1000] for value in held if "".join(map(str, range(1, 7))) in repr(value)[:1000]]
def f(x): return len(found)
"""
    suite = Suite.read(["assert f(3) == 123456", "assert f(3) == 0"])
    assert suite.results(sandbox.run_job(suite.job(search))) == (False, True)


def test_values_that_lie_about_equality_do_not_pass(sandbox: Sandbox) -> None:
    liars = """
class Liar({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
    def __repr__(self): return "4"
def f(x): return Liar()
"""
    for base in ("object", "int", "list", "dict", "str"):
        assert results(sandbox, liars.format(base=base), ["assert f(2) == 4", "assert f(2) == [4]"]) == (False, False)


def test_the_setup_runs_after_the_program_and_may_use_its_names(sandbox: Sandbox) -> None:
    code = """
class Node:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def f(node): return node.x
"""
    setup = "root = Node(3)"
    tests = ["assert f(root) == 3", "assert f(root) == 4", "assert root == Node(3)", "assert root == Node(4)"]
    assert results(sandbox, code, tests, setup) == (True, False, True, False)


def test_setup_gives_expected_values_too(sandbox: Sandbox) -> None:
    tests = ["assert f(2) == TABLE[2]", "assert f(3) == TABLE[2]"]
    assert results(sandbox, "def f(x): return x * x", tests, "TABLE = [0, 1, 4, 9]") == (True, False)


def test_a_program_that_fails_or_ends_early_passes_nothing(sandbox: Sandbox) -> None:
    tests = ["assert f() == 1", "assert True"]
    for code in ("1 / 0", "import os; os._exit(0)", "raise SystemExit", "import sys; sys.exit(0)", "def f(:"):
        assert results(sandbox, code, tests) == (False, False)


def test_a_main_block_does_not_run(sandbox: Sandbox) -> None:
    code = "def f(): return 1\nif __name__ == '__main__':\n    f = lambda: 2\n    input()"
    assert results(sandbox, code, ["assert f() == 1"]) == (True,)


def test_a_call_that_does_not_end_fails_what_follows(sandbox: Sandbox) -> None:
    suite = Suite.read(["assert f(1) == 1", "assert f(0) == 1", "assert f(1) == 1"])
    code = "def f(x):\n    while not x: pass\n    return x"
    outcome = sandbox.run_job(suite.job(code, Limits(wall_seconds=1.0)))
    assert outcome.status == "timeout"
    assert suite.results(outcome) == (True, False, False)


@pytest.mark.parametrize("tests", [[], ["assert f(1) =="], [""], ["assert f(1) == 1", "while True: pass"]])
def test_unreadable_tests_are_no_verdict(tests: list[str]) -> None:
    with pytest.raises(UnreadableTests):
        Suite.read(tests)


def test_reference_solutions_pass_and_foreign_ones_do_not(sandbox: Sandbox, real_data: Path) -> None:
    """A sample of MBPP; benchmarks/security/sandbox.py holds all 974 rows."""
    rows = [json.loads(line) for line in (real_data / "mbpp" / "mbpp.jsonl").read_text().split("\n") if line][::50]
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        suite = Suite.read(row["test_list"], row["test_setup_code"])
        assert suite.passed(sandbox.run_job(suite.job(row["code"]))), row["task_id"]
        assert not suite.passed(sandbox.run_job(suite.job(other["code"]))), (row["task_id"], other["task_id"])
