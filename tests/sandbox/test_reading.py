"""Tests by which nothing can be judged are told when they are read, without a program or a sandbox."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.sandbox.reading import UnreadableTests, read

NOTHING = "the tests assert nothing that depends on the program"


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ([], "there are no tests"),
        ([""], NOTHING),
        (["f(3) == 9"], NOTHING),
        (["f(3)"], NOTHING),
        (["print(f(3))"], NOTHING),
        (["x = f(3)\nif x == 9:\n    print('right')\nelse:\n    print('wrong')"], NOTHING),
        (["import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        f(3)"], NOTHING),
        (
            ["import unittest\nclass T(unittest.TestCase):\n    def helper(self):\n        self.assertEqual(f(3), 9)"],
            NOTHING,
        ),
        (["def test_a():\n    f(3)"], NOTHING),
        (["def helper():\n    assert f(3) == 9"], "helper is defined and never called"),
        (["def check(candidate):\n    assert candidate(3) == 9"], "check is defined and never called"),
        (["def check(candidate):\n    print(candidate(3))\ncheck(f)"], NOTHING),
        (["assert (f(3) == 9, 'nine')"], NOTHING),
        (["assert [f(3) == 9]"], NOTHING),
        (["assert {'a': f(3)}"], NOTHING),
        (["assert 'f(3) == 9'"], NOTHING),
        (["assert True"], NOTHING),
        (["assert 1 + 1 == 2"], NOTHING),
        (["assert lambda: f(3) == 9"], NOTHING),
        (["assert (f(3) == x for x in [9])"], NOTHING),
        (["assert f(3) == 9 or True"], NOTHING),
        (["assert (x := (f(3), 1))"], NOTHING),
        (["x = f(3)\nassert x == x"], NOTHING),
        (["try:\n    assert f(3) == 9\nexcept AssertionError:\n    pass"], NOTHING),
        (["try:\n    assert f(3) == 9\nexcept:\n    print('failed')"], NOTHING),
        (["try:\n    assert f(3) == 9\nexcept (ValueError, AssertionError) as e:\n    print(e)"], NOTHING),
        (["def check():\n    assert f(3) == 9\ntry:\n    check()\nexcept Exception:\n    pass"], NOTHING),
        (["import contextlib\nwith contextlib.suppress(AssertionError):\n    assert f(3) == 9"], NOTHING),
        (["if False:\n    assert f(3) == 9"], NOTHING),
        (["for x in []:\n    assert f(x) == 9"], NOTHING),
        (["import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertTrue(True)"], NOTHING),
        (["import math\nassert math.sqrt(4) == 2"], "use nothing of the program"),
        (["assert abs"], "use nothing of the program"),
        (["import numpy as np", "assert np.allclose(f(3), 9)"], "import numpy"),
        (["import pytest\nwith pytest.raises(TypeError):\n    f('a')"], "import pytest"),
        (["from hypothesis import given\nassert f(3) == 9"], "import hypothesis"),
        (["import tkinter\nassert f(3) == 9"], "import tkinter"),
        (["def check():\n    import pandas\n    assert f(3) == 9\ncheck()"], "import pandas"),
        (["assert f(3) =="], "SyntaxError"),
        (["print f(3)"], "SyntaxError"),
        (["return f(3) == 9"], "SyntaxError"),
        (["assert f(3) == '\0'"], "ValueError|SyntaxError"),
        (["assert f(3) == 9", "while True: pass"], "never ends"),
        (["def test_a(fixture):\n    assert f(fixture) == 9"], "takes arguments"),
        (["class A(Base):\n    pass\nassert A().f() == 3"], "derives from the program's Base"),
        (["(" * 5000 + ")" * 5000], "Error"),
    ],
)
def test_tests_that_judge_nothing_are_told(tests: list[str], reason: str) -> None:
    with pytest.raises(UnreadableTests, match=reason):
        read(tests)


@pytest.mark.parametrize(
    "test",
    [
        "assert f(3) == 9",
        "assert f(3)",
        "assert not f(3)",
        "assert (f(3) == 9), 'nine'",
        "assert f(3) == 9 and True",
        "if f(3) != 9:\n    raise ValueError",
        "import sys\nsys.exit(f(3) != 9)",
        "try:\n    f(-1)\n    assert False, 'no error'\nexcept ValueError:\n    pass",
        "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError",
        "ok = False\ntry:\n    f(-1)\nexcept ValueError:\n    ok = True\nassert ok",
        "try:\n    assert f(3) == 9\nexcept AssertionError:\n    print('no')\n    raise",
        "try:\n    assert f(3) == 9\nexcept AssertionError as e:\n    raise SystemExit(1)",
        "def check(candidate):\n    assert candidate(3) == 9\ncheck(f)",
        "def check(candidate):\n    return candidate(3) == 9\nassert check(f)",
        "def inner():\n    assert f(3) == 9\ndef outer():\n    inner()\nouter()",
        "from unittest import TestCase\nclass T(TestCase):\n    def test(self):\n        self.assertEqual(f(3), 9)",
        "import unittest\nclass B(unittest.TestCase):\n    def go(self):\n        self.assertEqual(f(3), 9)\n"
        "class T(B):\n    def test(self):\n        self.go()",
        "import unittest\nunittest.TestCase().assertEqual(f(3), 9)",
        "for x, y in [(3, 9)]:\n    assert f(x) == y",
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\nassert f(3) == 9",
        "from solution import f\nassert f(3) == 9",
        "from solution import *\nassert f(3) == 9",
        "while True:\n    if f(3) == 9:\n        break",
    ],
)
def test_tests_that_judge_something_are_taken(test: str) -> None:
    found = read([test] if "while" not in test else [test, "assert f(3)"])
    assert found.names in (("f",), ())


def test_packages_that_the_sandbox_has_may_be_imported() -> None:
    tests = ["import numpy as np", "assert np.allclose(f(3), 9)"]
    assert read(tests, packages=frozenset({"numpy"})).names == ("f",)


def test_what_the_tests_have_themselves_is_not_the_programs() -> None:
    found = read(
        ["import math\nfrom os import path as p\nx = 3\ndef g(y): return y", "assert [h(z) for z in g(x)] == p"]
    )
    assert found.names == ("h",)
    found = read(["def check(candidate, n=1):\n    total = candidate(n)\n    assert total == 2\ncheck(add)"])
    assert found.names == ("add",)


def test_the_program_is_told_definitions_and_no_functions_of_the_tests() -> None:
    tests = ["import math\nclass Node: pass\ndef answer(n): return n * n\nLIMIT = 3", "assert f(3) == answer(3)"]
    assert read(tests).prelude == "import math\nclass Node:\n    pass"
    assert read(tests).classes == ("Node",)
    assert "def helper" in read(tests[1:], "def helper(): pass\nX = 5").prelude
    assert "X" not in read(tests[1:], "def helper(): pass\nX = 5").prelude


WORDS = ["assert", "f", "(", ")", "==", "3", "\n", ":", "if", "try", "except", "'a'", "[", "]", ",", "def", "x", "    "]


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read([text])
    except UnreadableTests:
        return
    assert len(found.tests) == 1
