"""Programs judged by their tests. What a sandbox is for is tested in tests/sandbox."""

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinkling.data.reading import Reading
from thinkling.puzzles.noise import add_noise
from thinkling.puzzles.problemset import generate
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import SandboxUnavailable, unavailable
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sources.problems import ProblemsSource
from thinkling.tasks.problem import Problem
from thinkling.verify import program, registry
from thinkling.verify.program import ProgramVerifier, read_program
from thinkling.verify.verdict import Outcome

DOUBLE = Problem(
    "0", "program", "Write f, which doubles.", "", "", "program",
    tests=("assert f(2) == 4",), hidden_tests=("assert f('ab') == 'abab'", "assert f(0) == 0"),
)  # fmt: skip
RIGHT = "def f(x): return x * 2"


@pytest.fixture(scope="module")
def verifier() -> Iterator[ProgramVerifier]:
    try:
        sandbox = Sandbox(Limits(cpu_seconds=2, wall_seconds=30.0), workers=2)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with sandbox:
        yield ProgramVerifier(sandbox)


@pytest.mark.parametrize(
    ("completion", "outcome", "tier", "detail"),
    [
        (RIGHT, Outcome.RIGHT, "tests", "3 tests passed"),
        (f"First\n```python\n1/0\n```\nor\n```python\n{RIGHT}\n```\nDone.", Outcome.RIGHT, "tests", "3 tests passed"),
        ("def f(x): return 4", Outcome.WRONG, "tests", "1 of 3 tests passed"),
        ("def f(x): return x + 2", Outcome.WRONG, "tests", "1 of 3 tests passed, TypeError"),
        ("def g(x): return x * 2", Outcome.WRONG, "tests", "0 of 3 tests passed, NameError"),
        ("def f(x) return", Outcome.WRONG, "tests", "0 of 3 tests passed, SyntaxError"),
        ("print('3 tests passed')", Outcome.WRONG, "tests", "0 of 3 tests passed, NameError"),
        ("while True: pass", Outcome.WRONG, "limits", "timeout: more than 2 s of processor time"),
        (f"{RIGHT}\nimport os\nos.fork()", Outcome.WRONG, "tests", "0 of 3 tests passed, PermissionError"),
        ("", Outcome.WRONG, "extract", "no readable program"),
    ],
)  # fmt: skip
def test_verdicts(verifier: ProgramVerifier, completion: str, outcome: Outcome, tier: str, detail: str) -> None:
    verdict = verifier(DOUBLE, Reading.of(completion))
    assert (verdict.outcome, verdict.tier, verdict.detail) == (outcome, tier, detail)


def test_a_program_that_knows_the_public_tests_alone_is_wrong(verifier: ProgramVerifier) -> None:
    assert verifier(dataclasses.replace(DOUBLE, hidden_tests=()), Reading.of("f = {2: 4}.get")).outcome is Outcome.RIGHT
    assert verifier(DOUBLE, Reading.of("f = {2: 4}.get")).outcome is Outcome.WRONG


def test_without_readable_tests_nothing_is_decided(verifier: ProgramVerifier) -> None:
    for tests, detail in (((), "the problem has no tests"), (("assert f(",), "'assert f(': SyntaxError")):
        verdict = verifier(dataclasses.replace(DOUBLE, tests=tests, hidden_tests=()), Reading.of(RIGHT))
        assert (verdict.outcome, verdict.tier) == (Outcome.UNVERIFIABLE, "tests")
        assert verdict.detail.startswith(detail)


def test_many_come_back_in_order_and_equal_programs_run_once(
    verifier: ProgramVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    run_many = Sandbox.run_many
    monkeypatch.setattr(Sandbox, "run_many", lambda self, jobs: asked.append(len(jobs)) or run_many(self, jobs))
    other = dataclasses.replace(DOUBLE, tests=("assert f(1) == 3",), hidden_tests=())
    samples = [
        (DOUBLE, RIGHT),
        (other, RIGHT),
        (DOUBLE, "no"),
        (other, "f = lambda x: x + 2"),
        (DOUBLE, RIGHT),
        (DOUBLE, ""),
    ]
    verdicts = verifier.verify_many([(problem, Reading.of(text)) for problem, text in samples])
    expected = ["right", "wrong", "wrong", "right", "right", "wrong"]
    assert [v.outcome.value for v in verdicts] == expected
    assert asked == [4]
    assert verdicts == [verifier(problem, Reading.of(text)) for problem, text in samples]


def test_no_sandbox_is_an_error_and_never_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> Sandbox:
        raise SandboxUnavailable("sandbox: this kernel has no Landlock")

    monkeypatch.setattr(program, "Sandbox", missing)
    verdicts = ProgramVerifier().verify_many([(DOUBLE, Reading.of(RIGHT)), (DOUBLE, Reading.of("no"))])
    assert [(v.outcome, v.tier) for v in verdicts] == [(Outcome.ERROR, "sandbox")] * 2
    assert verdicts[0].detail == "sandbox: this kernel has no Landlock"


def test_a_run_that_the_sandbox_could_not_make_is_an_error(
    verifier: ProgramVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier(DOUBLE, Reading.of(RIGHT))  # its tests are read
    monkeypatch.setattr(Sandbox, "run_many", lambda self, jobs: [unavailable("killed", 3) for _ in jobs])
    verdict = verifier(DOUBLE, Reading.of(RIGHT))
    assert (verdict.outcome, verdict.tier, verdict.detail) == (Outcome.ERROR, "sandbox", "killed")


def test_the_registry_knows_it() -> None:
    assert registry.resolve("program") is program.verify


def test_the_generator_and_python_agree(verifier: ProgramVerifier) -> None:
    """Expected values come from puzzles/programs.py alone; here the described programs really run."""
    problems = generate({"program": {"min_steps": 1, "max_steps": 5}}, "train", 60, seed=1)
    verdicts = verifier.verify_many([(p, Reading(p.reasoning, p.answer)) for p in problems])
    assert {v.outcome for v in verdicts} == {Outcome.RIGHT}
    rng = random.Random(0)
    noisy = [add_noise(p, rng, 1.0) for p in problems]
    outcomes = [
        v.outcome
        for v in verifier.verify_many([(p, Reading.of(d.answer)) for p, d in zip(problems, noisy, strict=True)])
    ]
    assert outcomes.count(Outcome.WRONG) > 40
    assert set(outcomes) <= {Outcome.RIGHT, Outcome.WRONG}


def test_reference_solutions_of_mbpp_pass(verifier: ProgramVerifier) -> None:
    if not os.environ.get("THINKLING_DATA"):
        pytest.skip("THINKLING_DATA is not set")
    path = Path(os.environ["THINKLING_DATA"]) / "mbpp" / "mbpp.jsonl"
    mbpp = ProblemsSource(type="problems", preset="mbpp", path=str(path), heldout_fraction=0)
    problems = random.Random(0).sample(mbpp.problems("train"), 40)
    assert all(problem.tests and problem.answer for problem in problems)
    verdicts = verifier.verify_many(
        [(problem, Reading.of(f"```python\n{problem.answer}\n```")) for problem in problems]
    )
    assert {v.outcome for v in verdicts} == {Outcome.RIGHT}


def test_read_program() -> None:
    assert read_program(Reading.of("```\na\n```")) == "a\n"
    assert read_program(Reading.of("a = '''\n```'''\nb")) == "a = '''\n```'''\nb"
    assert json.loads(read_program(Reading.of("[1,\n 2]")) or "") == [1, 2]
    assert read_program(Reading("a", None)) is None


SETUP = """
from typing import *

class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_a_program_and_its_tests_find_the_set_up_code(verifier: ProgramVerifier, future: str) -> None:
    """Solutions in LeetCode's manner name `ListNode` and `Optional`, which they do not define."""
    code = (
        f"{future}class Solution:\n    def last(self, head: Optional[ListNode]) -> int:\n"
        "        while head.next:\n            head = head.next\n        return head.val\n"
    )
    problem = Problem(
        "p",
        "f",
        "",
        "",
        "",
        "program",
        hidden_tests=("assert Solution().last(ListNode(1, ListNode(2))) == 2",),
        setup=SETUP,
    )
    assert verifier(problem, Reading.of(f"```python\n{code}```")).outcome is Outcome.RIGHT
    assert verifier(problem, Reading.of(f"```python\n{code.replace('head.val', '1')}```")).outcome is Outcome.WRONG


def test_set_up_code_alone_is_no_test(verifier: ProgramVerifier) -> None:
    verdict = verifier(Problem("p", "f", "", "", "", "program", setup=SETUP), Reading.of("x = 1"))
    assert (verdict.outcome, verdict.detail) == (Outcome.UNVERIFIABLE, "the problem has no tests")
