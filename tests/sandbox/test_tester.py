# ruff: noqa: E501
"""What tests may do with a program that lives in another process, kind by kind: as if it were in theirs."""

import textwrap
from collections.abc import Sequence

import pytest

from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite


def results(sandbox: Sandbox, code: str, tests: Sequence[str], setup: str = "") -> tuple[bool, ...]:
    suite = Suite.read([textwrap.dedent(test) for test in tests], textwrap.dedent(setup))
    return suite.results(sandbox.run_job(suite.job(textwrap.dedent(code))))


def holds(sandbox: Sandbox, code: str, right: Sequence[str], wrong: Sequence[str] = ()) -> None:
    """All of `right` pass, each alone with the program fresh, and none of `wrong`."""
    assert results(sandbox, code, right) == (True,) * len(right)
    if wrong:
        assert results(sandbox, code, wrong) == (False,) * len(wrong)


def test_arguments_changed_in_place_are_compared_after_the_call(sandbox: Sandbox) -> None:
    code = """
        def double(values):
            for at in range(len(values)): values[at] *= 2
        def clear(grid):
            for row in grid: row[:] = [0] * len(row)
        def count(text, found):
            for one in text: found[one] = found.get(one, 0) + 1
        def grow(s): s.add(9); s.discard(1)
        def rotate(d): d.rotate(1)
        def same(a): return a
        def append(a, out=[]):
            out.append(a); return out
    """
    holds(
        sandbox,
        code,
        [
            "a = [1, 2]\ndouble(a)\nassert [2, 4] == a",
            "g = [[1, 2], [3]]\nrow = g[0]\nclear(g)\nassert g == [[0, 0], [0]]\nassert row is g[0] and row == [0, 0]",
            "d = {}\ncount('aab', d)\nassert d == {'a': 2, 'b': 1}\nassert list(d) == ['a', 'b']",
            "s = {1, 2}\ngrow(s)\nassert s == {2, 9}",
            "from collections import deque\nd = deque([1, 2, 3])\nrotate(d)\nassert d == deque([3, 1, 2])",
            "b = bytearray(b'ab')\ndouble(b) if False else None\nassert same(b) is b",
            "a = [1]\nassert same(a) is a\na.append(2)\nassert same(a) == [1, 2]",
            "assert append(1) == [1]\nassert append(2) == [1, 2]",
            "a = [1, 2]\nb = [a, a]\nc = same(b)\nassert c is b and c[0] is c[1]",
            "a = []\na.append(a)\nassert same(a) is a",
            "a = [1, 2]\ntry:\n    double((a, None))\nexcept TypeError:\n    pass\nassert a == [1, 2, 1, 2] or a == [1, 2]",
        ],
        ["a = [1, 2]\nb = list(a)\ndouble(a)\nassert a == b"],
    )


def test_what_the_program_keeps_stays_the_same_object(sandbox: Sandbox) -> None:
    code = """
        class Collector:
            def __init__(self, out): self.out = out
            def add(self, one): self.out.append(one)
        class Stack:
            def __init__(self): self.items = []
            def size(self): return len(self.items)
        total = 0
        def bump():
            global total
            total += 1
    """
    holds(
        sandbox,
        code,
        [
            "out = []\nc = Collector(out)\nc.add(1)\nc.add(2)\nassert out == [1, 2]\nassert c.out is out",
            "out = [0]\nc = Collector(out)\nout.append(5)\nc.add(6)\nassert c.out == [0, 5, 6]",
            "s = Stack()\ns.items.append(4)\nassert s.size() == 1",
            "bump()\nbump()\nassert total == 2",
        ],
    )


def test_what_the_program_does_not_keep_is_shared_no_longer_than_the_call(sandbox: Sandbox) -> None:
    code = """
        import gc
        codec = next(one for one in gc.get_objects() if type(one).__name__ == "Codec")
        kept = []
        def held(*values): return len(codec._shared)
        def keep(value): kept.append(value)
        def fail(value): raise ValueError
    """
    tests = [
        "for _ in range(5):\n    assert held([1], {2}) == 2\nassert held() == 0",
        "for _ in range(5):\n    try:\n        fail([[1]])\n        assert False\n    except ValueError:\n        pass\nassert held() == 0",
        "keep([[1]])\nassert held() == 2",
    ]
    assert results(sandbox, code, tests) == (True, True, True)


def test_objects_of_the_programs_classes(sandbox: Sandbox) -> None:
    code = """
        from dataclasses import dataclass
        from enum import Enum, IntEnum
        from typing import NamedTuple
        class Vector:
            def __init__(self, x, y): self.x, self.y = x, y
            def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
            def __hash__(self): return hash((self.x, self.y))
            def __add__(self, other): return Vector(self.x + other.x, self.y + other.y)
            def __mul__(self, k): return Vector(self.x * k, self.y * k)
            __rmul__ = __mul__
            def __abs__(self): return (self.x ** 2 + self.y ** 2) ** 0.5
            def __lt__(self, other): return abs(self) < abs(other)
            def __repr__(self): return f"Vector({self.x}, {self.y})"
            def __iter__(self): return iter((self.x, self.y))
            def __len__(self): return 2
            def __getitem__(self, at): return (self.x, self.y)[at]
            def __contains__(self, one): return one in (self.x, self.y)
            @classmethod
            def zero(cls): return cls(0, 0)
            @staticmethod
            def name(): return "vector"
            @property
            def norm(self): return abs(self)
        @dataclass
        class Point:
            x: int
            y: int = 0
        class Color(Enum):
            RED = 1
            BLUE = 2
        class Level(IntEnum):
            LOW = 1
        class Pair(NamedTuple):
            a: int
            b: int
            def total(self): return self.a + self.b
        class Animal:
            sound = "?"
            def speak(self): return self.sound
        class Dog(Animal):
            sound = "woof"
        class Stack(list):
            def push(self, one): self.append(one)
        class Cache(dict):
            def get(self, key): return dict.get(self, key, -1)
        class Managed:
            def __enter__(self): self.inside = True; return self
            def __exit__(self, *error): self.inside = False; return True
    """
    right = [
        "assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6)",
        "assert Vector(1, 2) * 3 == Vector(3, 6)\nassert 3 * Vector(1, 2) == Vector(3, 6)",
        "assert abs(Vector(3, 4)) == 5\nassert Vector(3, 4).norm == 5",
        "assert repr(Vector(1, 2)) == 'Vector(1, 2)'\nassert f'{Vector(1, 2)}' == str(Vector(1, 2))",
        "assert list(Vector(1, 2)) == [1, 2]\nx, y = Vector(5, 6)\nassert (x, y) == (5, 6)",
        "assert len(Vector(1, 2)) == 2\nassert Vector(1, 2)[1] == 2\nassert 2 in Vector(1, 2)\nassert 7 not in Vector(1, 2)",
        "assert sorted([Vector(3, 4), Vector(0, 1)])[0] == Vector(0, 1)\nassert Vector(0, 1) < Vector(5, 5)",
        "assert len({Vector(1, 2), Vector(1, 2)}) == 1\nassert {Vector(1, 2): 3}[Vector(1, 2)] == 3",
        "assert isinstance(Vector(1, 2), Vector)\nassert not isinstance(3, Vector)\nassert Vector.zero() == Vector(0, 0)",
        "assert Vector.name() == 'vector'\nv = Vector(1, 2)\nv.x = 9\nassert v == Vector(9, 2)",
        "assert hasattr(Vector(1, 2), 'x')\nassert not hasattr(Vector(1, 2), 'z')",
        "assert [Vector(1, 2)] == [Vector(1, 2)]\nassert Vector(1, 2) != Vector(2, 1)\nassert Vector(1, 2) in [Vector(1, 2)]",
        "assert type(Vector(1, 2)) == Vector\nassert type(Vector(1, 2)).__name__ == 'Vector'",
        "assert Point(1) == Point(1, 0)\nassert Point(1).y == 0\nassert repr(Point(2)) == 'Point(x=2, y=0)'",
        "assert Color.RED == Color.RED\nassert Color.RED is Color.RED\nassert Color.RED != Color.BLUE",
        "assert Color.RED.value == 1\nassert Color(2) is Color.BLUE\nassert Color['RED'].name == 'RED'",
        "assert [one.name for one in Color] == ['RED', 'BLUE']\nassert Level.LOW == 1\nassert Level.LOW + 1 == 2",
        "assert Pair(1, 2) == (1, 2)\nassert Pair(1, 2).total() == 3\nassert Pair(1, 2).a == 1",
        "assert issubclass(Dog, Animal)\nassert Dog().speak() == 'woof'\nassert isinstance(Dog(), Animal)",
        "s = Stack()\ns.push(1)\nassert s == [1]\nassert s != [2]\nassert len(s) == 1\nassert s.pop() == 1",
        "c = Cache()\nc['a'] = 1\nassert c == {'a': 1}\nassert c.get('b') == -1\nassert c.get('a') == 1",
        "with Managed() as m:\n    assert m.inside\n    raise ValueError\nassert not m.inside",
        "import copy\nv = Vector(1, 2)\nw = copy.deepcopy(v)\nw.x = 5\nassert v.x == 1\nassert w == Vector(5, 2)",
        "assert callable(Vector)\nassert not callable(Vector(1, 2))\nassert Vector(1, 2)",
    ]
    wrong = [
        "assert Vector(1, 2) == Vector(2, 1)",
        "assert Vector(1, 2) == (1, 2)",
        "assert Color.RED == 1",
        "assert Vector(1, 2) + 1 == Vector(2, 2)",
        "Vector(1, 2).missing",
    ]
    holds(sandbox, code, right, wrong)


def test_callbacks_generators_and_functions_that_return_functions(sandbox: Sandbox) -> None:
    code = """
        import functools
        def apply(f, *values): return [f(one) for one in values]
        def count(n):
            while n: yield n; n -= 1
        def adder(n): return lambda x: x + n
        def compose(f, g): return lambda x: f(g(x))
        def sort(values, key): return sorted(values, key=key)
        def timed(f):
            @functools.wraps(f)
            def inner(*a, **k): inner.calls += 1; return f(*a, **k)
            inner.calls = 0
            return inner
        def consume(values): return [v * 2 for v in values]
        def fold(f, values): return functools.reduce(f, values)
        async def later(x): return x + 1
        def retry(f, n):
            for _ in range(n):
                try: return f()
                except ValueError: pass
        def read(stream): return stream.read().split()
        def show(x, file): print(x, file=file)
    """
    holds(
        sandbox,
        code,
        [
            "assert apply(lambda x: x * x, 1, 2) == [1, 4]\nassert apply(str, 1) == ['1']\nassert apply(len, 'ab') == [2]",
            "assert list(count(3)) == [3, 2, 1]\nassert next(count(2)) == 2\nassert sum(count(3)) == 6",
            "g = count(1)\nnext(g)\ntry:\n    next(g)\n    assert False\nexcept StopIteration:\n    pass",
            "assert adder(2)(3) == 5\nassert compose(adder(1), lambda x: x * 10)(2) == 21",
            "assert sort([3, -1, 2], key=abs) == [-1, 2, 3]\nassert sort(['b', 'A'], str.lower) == ['A', 'b']",
            "@timed\ndef f(x): return x\nassert f(3) == 3\nassert f(4) == 4\nassert f.calls == 2",
            "assert consume(x for x in (1, 2)) == [2, 4]\nassert consume(map(int, '12')) == [2, 4]",
            "import operator\nassert fold(operator.mul, [2, 3, 4]) == 24",
            "import asyncio\nassert asyncio.run(later(1)) == 2",
            "calls = []\ndef f():\n    calls.append(1)\n    if len(calls) < 3: raise ValueError\n    return 'done'\n"
            "assert retry(f, 5) == 'done'\nassert len(calls) == 3",
            "import io\nassert read(io.StringIO('a b')) == ['a', 'b']\nout = io.StringIO()\nshow(3, out)\n"
            "assert out.getvalue() == '3\\n'",
            "assert callable(adder(1))\nassert adder.__name__ == 'adder'",
            "from functools import partial\nassert apply(partial(max, 3), 1, 5) == [3, 5]",
        ],
    )


def test_exceptions_are_caught_by_their_class(sandbox: Sandbox) -> None:
    code = """
        import json
        class Broke(ValueError):
            def __init__(self, missing): super().__init__(f"{missing} short"); self.missing = missing
        class Worse(Broke): pass
        def pay(n):
            if n < 0: raise Worse(-n)
            if n > 9: raise Broke(n)
            return n
        def key(d): return d["x"]
        def parse(t): return json.loads(t)
        def leave(): raise SystemExit(3)
        def check(n): assert n > 0, "positive"
    """
    holds(
        sandbox,
        code,
        [
            "try:\n    pay(10)\n    assert False\nexcept Broke as error:\n    assert str(error) == '10 short'\n    assert error.missing == 10",
            "try:\n    pay(-1)\n    assert False\nexcept Broke as error:\n    assert isinstance(error, Worse)",
            "try:\n    pay(10)\n    assert False\nexcept ValueError:\n    pass",
            "try:\n    key({})\n    assert False\nexcept KeyError as error:\n    assert error.args == ('x',)",
            "import json\ntry:\n    parse('{')\n    assert False\nexcept json.JSONDecodeError:\n    pass",
            "try:\n    leave()\n    assert False\nexcept SystemExit as error:\n    assert error.code == 3",
            "try:\n    check(0)\nexcept AssertionError as error:\n    assert str(error) == 'positive'\nelse:\n    raise ValueError",
            """
            import unittest
            class T(unittest.TestCase):
                def test_raises(self):
                    with self.assertRaises(Broke) as caught: pay(11)
                    self.assertEqual(caught.exception.missing, 11)
                    self.assertRaises(KeyError, key, {})
                    with self.assertRaisesRegex(ValueError, "short"): pay(12)
            """,
        ],
        [
            "pay(10)\nassert pay(1) == 1",
            "try:\n    pay(3)\n    assert False\nexcept ValueError:\n    pass",
            "try:\n    pay(10)\n    assert False\nexcept Worse:\n    pass",
        ],
    )


VALUES = [
    ("10 ** 5000", "10 ** 5000", True),
    ("10 ** 5000 + 1", "10 ** 5000", False),
    ("1.0", "1", True),
    ("True", "1", True),
    ("-0.0", "0.0", True),
    ("0.1 + 0.2", "0.3", False),
    ("1 + 0j", "1", True),
    ("float('inf')", "float('inf')", True),
    ("float('nan')", "float('nan')", False),
    ("range(0, 3, 2)", "range(0, 4, 2)", True),
    ("range(3)", "[0, 1, 2]", False),
    ("(1, 2)", "[1, 2]", False),
    ("{1, 2}", "frozenset([2, 1])", True),
    ("{'a': [1]}", "{'a': [1]}", True),
    ("{'a': 1}.keys()", "{'a'}", True),
    ("list({'a': 1}.items())", "[('a', 1)]", True),
    ("deque([1], maxlen=5)", "deque([1])", True),
    ("deque([1])", "[1]", False),
    ("OrderedDict([('b', 2), ('a', 1)])", "OrderedDict([('a', 1), ('b', 2)])", False),
    ("OrderedDict([('b', 2), ('a', 1)])", "{'a': 1, 'b': 2}", True),
    ("Counter('aab')", "{'a': 2, 'b': 1}", True),
    ("Counter('aab')", "Counter('aba')", True),
    ("defaultdict(list, a=[1])", "{'a': [1]}", True),
    ("UserDict(a=1)", "{'a': 1}", True),
    ("UserList([1])", "[1]", True),
    ("SimpleNamespace(b=2, a=1)", "SimpleNamespace(a=1, b=2)", True),
    ("Decimal('0.10')", "Decimal('0.1')", True),
    ("Decimal('0.5')", "0.5", True),
    ("Fraction(1, 2)", "0.5", True),
    ("Fraction(1, 3)", "Fraction(2, 6)", True),
    ("datetime(2020, 1, 2, 3)", "datetime(2020, 1, 2, 3)", True),
    ("date(2020, 1, 2)", "date(2020, 1, 3)", False),
    ("datetime(2020, 1, 2, tzinfo=timezone.utc)", "datetime(2020, 1, 2, tzinfo=timezone.utc)", True),
    ("timedelta(hours=25)", "timedelta(days=1, hours=1)", True),
    ("namedtuple('P', 'x y')(1, 2)", "(1, 2)", True),
    ("bytearray(b'a')", "b'a'", True),
    ("b'a'", "'a'", False),
    ("'\\ud800'", "'\\ud800'", True),
    ("'\\ud83d' + '\\ude00'", "'\\U0001f600'", False),
    ("array('i', [1, 2])", "array('i', [1, 2])", True),
    ("...", "...", True),
    ("None", "False", False),
    ("slice(1, 2)", "slice(1, 2)", True),
    ("int", "int", True),
    ("[int, ValueError]", "[int, ValueError]", True),
    ("memoryview(b'ab')", "b'ab'", True),
    ("MappingProxyType({'a': 1})", "{'a': 1}", True),
    ("ChainMap({'a': 1}, {'a': 2, 'b': 3})", "{'a': 1, 'b': 3}", True),
    ("re.compile('a+', re.I)", "re.compile('a+', re.I)", True),
    ("re.compile('a+')", "re.compile('a+', re.I)", False),
    ("Path('a') / 'b'", "Path('a/b')", True),
    ("list[int]", "list[int]", True),
    ("List[int]", "List[int]", True),
    ("Optional[str]", "Optional[str]", True),
    ("Dict[str, List[int]]", "Dict[str, List[str]]", False),
    ("Callable[[int], str]", "Callable[[int], str]", True),
    ("int | None", "int | None", True),
    ("Any", "Any", True),
    ("gmtime(0)", "gmtime(0)", True),
    ("[[]] * 2", "[[], []]", True),
    ("UUID(int=5)", "UUID(int=5)", True),
]
IMPORTS = """
from array import array
from collections import *
from collections import UserDict, UserList
from datetime import *
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from time import gmtime
from types import MappingProxyType, SimpleNamespace
from typing import Any, Callable, Dict, List, Optional
import re
from uuid import UUID
"""


@pytest.mark.parametrize(("one", "other", "equal"), VALUES)
def test_values_are_equal_as_python_says(sandbox: Sandbox, one: str, other: str, equal: bool) -> None:
    tests = [IMPORTS + f"assert f() == {other}", f"assert {other} == f()", f"assert not f() != {other}"]
    assert results(sandbox, f"{IMPORTS}\ndef f(): return {one}", tests) == (equal,) * 3


def test_a_lying_subclass_is_its_bases_value(sandbox: Sandbox) -> None:
    for base, made in {
        "int": "0",
        "float": "0.0",
        "str": "''",
        "tuple": "()",
        "list": "[]",
        "dict": "{}",
        "set": "set()",
    }.items():
        code = f"""
            class Liar({base}):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __lt__(self, other): return True
                __gt__ = __le__ = __ge__ = __contains__ = __lt__
                def __hash__(self): return 0
                def __sub__(self, other): return 0
                __rsub__ = __abs__ = __sub__
                extra = 1
            def f(*a): return Liar()
        """
        wrong = ["assert f(1) == 4", "assert f(1) in (4, 5)", "assert not f(1) != 4", "assert f(1) >= 4 and f(1) <= 5"]
        wrong += [
            "assert abs(f(1) - 4) < 0.1",
            "assert 4 == f(1)",
            "assert [f(1)] == [4]",
            "assert {'a': f(1)} == {'a': 4}",
        ]
        wrong += ["import math\nassert math.isclose(f(1), 4)", "assert f(1).__eq__(4) is True"]
        holds(sandbox, code, [f"assert f(1) == {made}"], wrong)


UNITTESTS = """
import unittest
class TestDouble(unittest.TestCase):
    def setUp(self): self.values = [1, 2]
    def test_all(self):
        for one in self.values:
            with self.subTest(one=one): self.assertEqual(double(one), one * 2)
    def test_almost(self): self.assertAlmostEqual(double(0.1), 0.2)
    def test_lists(self): self.assertListEqual(double([1]), [1, 1])
    def test_in(self): self.assertIn(double(1), (2, 3)); self.assertIsInstance(double(1), int)
    @unittest.skip("not now")
    def test_later(self): self.fail()
"""


@pytest.mark.parametrize(
    "tests",
    [
        "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate('a') == 'aa'\ncheck(double)",
        "METADATA = {}\ndef check(candidate):\n    for n in range(3):\n        assert candidate(n) == n + n\n\ncheck(double)",
        "for given, wanted in [(1, 2), (2, 4)]:\n    assert double(given) == wanted",
        "cases = {1: 2}\nassert all(double(k) == v for k, v in cases.items())",
        "def expect(a, b):\n    if a != b: raise Exception(f'{a} {b}')\nexpect(double(2), 4)",
        UNITTESTS,
        UNITTESTS + "if __name__ == '__main__':\n    unittest.main()",
        UNITTESTS + "unittest.TextTestRunner().run(unittest.TestLoader().loadTestsFromTestCase(TestDouble))",
        "class TestDouble:\n    def setup_method(self): self.x = 2\n    def test_it(self): assert double(self.x) == 4",
        "def test_double():\n    assert double(2) == 4\ndef test_zero():\n    assert double(0) == 0",
        "def test_double():\n    assert double(2) == 4\ntest_double()",
        "async def test_double():\n    assert double(2) == 4",
        "from solution import double\nassert double(2) == 4",
        "from solution import *\nassert double(2) == 4",
        "import solution\nassert solution.double(2) == 4",
        "from .main import double as d\nassert d(2) == 4",
        '"""\n>>> double(2)\n4\n>>> double("a")\n\'aa\'\n"""',
        ">>> double(2)\n4",
        "import sys\nif double(2) != 4:\n    sys.exit(1)",
        "try:\n    assert double(2) == 4\nexcept AssertionError:\n    raise",
        "ok = True\ntry:\n    assert double(2) == 4\nexcept AssertionError:\n    ok = False\nassert ok",
        "if __name__ == '__main__':\n    assert double(2) == 4",
        "assert [*map(double, [1, 2])] == [2, 4]",
        "from unittest.mock import Mock\nm = Mock(return_value=3)\nassert double(m()) == 6",
    ],
)
def test_forms_of_tests(sandbox: Sandbox, tests: str) -> None:
    assert results(sandbox, "def double(x): return x * 2", [tests]) == (True,)
    liar = "class Any:\n    def __eq__(self, other): return True\n    def __add__(self, other): return self\n"
    for wrong in (
        "def double(x): return x",
        liar + "def double(x): return Any()",
        "import os\ndef double(x): os._exit(0)",
        "def double(x): exit(0)",
        "import unittest\ndef double(x): raise unittest.SkipTest",
    ):
        assert results(sandbox, wrong, [tests]) == (False,), wrong


def test_set_up_code_gives_both_sides_their_classes(sandbox: Sandbox) -> None:
    """As problems with linked lists and trees have it."""
    setup = """
        from typing import List, Optional
        class ListNode:
            def __init__(self, val=0, next=None): self.val, self.next = val, next
        def list_node(values):
            head = None
            for one in reversed(values): head = ListNode(one, head)
            return head
        def is_same_list(a, b):
            while a and b:
                if a.val != b.val: return False
                a, b = a.next, b.next
            return a is None and b is None
    """
    code = """
        class Solution:
            def reverse(self, head: Optional[ListNode]) -> Optional[ListNode]:
                last = None
                while head: head.next, last, head = last, head, head.next
                return last
            def double(self, head: ListNode) -> ListNode:
                return ListNode(head.val * 2)
    """
    tests = [
        "assert is_same_list(Solution().reverse(list_node([1, 2, 3])), list_node([3, 2, 1]))",
        "assert is_same_list(Solution().reverse(list_node([1, 2, 3])), list_node([1, 2, 3]))",
        "def check(candidate):\n    assert candidate(list_node([4])).val == 8\ncheck(Solution().double)",
        "head = list_node([1, 2])\nlast = head.next\nassert Solution().reverse(head) is last\nassert last.next is head",
    ]
    assert results(sandbox, code, tests, setup) == (True, False, True, True)
    forger = "def is_same_list(a, b): return True\nclass Solution:\n    def reverse(self, head): return head"
    assert results(sandbox, forger, tests[:1], setup) == (False,)


def test_a_function_that_is_named_as_a_builtin_may_be_asked_for(sandbox: Sandbox) -> None:
    assert results(sandbox, "def sum(a, b): return a + b", ["assert sum(10, 15) == 25"]) == (True,)
    code = "def sum(a, b): return [a]\ndef sorted(x): return 0\ndef set(x): return 0"
    assert results(sandbox, code, ["assert sorted(sum(1, 2)) == sorted([3])"]) == (False,)
    assert results(sandbox, "def f(): return 1\ndef abs(x): return 0", ["assert abs(f() - 5) < 1"]) == (False,)


def test_modules_that_the_program_imports_are_the_testers_own(sandbox: Sandbox) -> None:
    test = ["assert math.isclose(f(1), 0.5)"]
    assert results(sandbox, "import math\ndef f(x): return 0.5", test) == (True,)
    assert results(sandbox, "def f(x): return 0.5", test) == (False,)
    patched = "import math\nmath.isclose = lambda *a: True\ndef f(x): return 7"
    assert results(sandbox, patched, test) == (False,)
    assert results(sandbox, "class math:\n    isclose = lambda *a: True\ndef f(x): return 7", test) == (False,)


def test_a_program_is_compiled_as_python_does_it(sandbox: Sandbox) -> None:
    holds(
        sandbox,
        "from typing import Optional\ndef f(x: int, y: Optional[str] = None) -> list[int]: return [x]",
        ["assert f.__annotations__['x'] is int", "assert f(1) == [1]"],
    )
    assert results(sandbox, "def f(x: Missing): return x", ["assert f(1) == 1"]) == (False,)
    assert sandbox.run("def f(x: Missing): pass").error == "NameError"
    assert sandbox.run("def f(x: int): pass\nprint(f.__annotations__)").stdout == "{'x': <class 'int'>}\n"
    future = "from __future__ import annotations\ndef f(x: Missing): return x"
    assert results(sandbox, future, ["assert f(1) == 1", "assert f.__annotations__['x'] == 'Missing'"]) == (True, True)
    with sandbox.session() as session:
        assert session.run("def f(x: int): pass\nf.__annotations__").stdout == "{'x': <class 'int'>}\n"


def test_exit_and_quit_are_there(sandbox: Sandbox) -> None:
    code = "def f(n):\n    try:\n        quit(n)\n    except SystemExit as end:\n        return end.code"
    assert results(sandbox, code, ["assert f(2) == 2"]) == (True,)
    assert sandbox.run("exit(3)").exit_code == 3


def test_a_test_that_fails_costs_no_other(sandbox: Sandbox) -> None:
    code = "def f(x):\n    if x == 2: raise ValueError\n    return x"
    tests = ["assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 3", "assert f(4) == 5"]
    assert results(sandbox, code, tests) == (True, False, True, False)


def test_signatures_and_annotations_are_the_programs(sandbox: Sandbox) -> None:
    code = "from typing import List\ndef f(a: int, *b, c: List[int] = (), **d) -> str: return 'x'"
    tests = [
        "import inspect\ns = inspect.signature(f)\nassert list(s.parameters) == ['a', 'b', 'c', 'd']\n"
        "assert s.parameters['a'].annotation is int\nassert s.parameters['c'].default == ()\n"
        "assert s.parameters['a'].default is inspect.Parameter.empty\nassert s.return_annotation is str",
        "from typing import List, get_type_hints\nassert get_type_hints(f) == {'a': int, 'c': List[int], 'return': str}",
    ]
    assert results(sandbox, code, tests) == (True, True)


def test_streams_that_the_tests_replace_are_the_programs(sandbox: Sandbox) -> None:
    code = """
        import sys
        def show(x): print(x); print(x + 1)
        def ask(): return int(input()) + int(input("more? "))
        def line(): return sys.stdin.readline().strip()
        def fail(): print("before"); raise ValueError
    """
    tests = [
        "import contextlib, io\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    show(3)\n    print(9)\n"
        "assert out.getvalue() == '3\\n4\\n9\\n'",
        "from unittest.mock import patch\nwith patch('builtins.input', side_effect=['1', '2']):\n    assert ask() == 3",
        "import io, sys\nsys.stdin = io.StringIO('a\\nb\\n')\nassert line() == 'a'\nassert line() == 'b'\nsys.stdin = sys.__stdin__",
        "from unittest.mock import patch\nwith patch('builtins.print') as shown:\n    show(3)\nassert shown.call_count == 2\n"
        "shown.assert_any_call(4)",
        "import contextlib, io\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    try:\n        fail()\n"
        "    except ValueError:\n        pass\n    else:\n        raise AssertionError\nassert out.getvalue() == 'before\\n'",
    ]
    assert results(sandbox, code, tests) == (True,) * 5


def test_objects_of_the_tests_come_back_and_hide_what_is_behind_them(sandbox: Sandbox) -> None:
    code = "def same(x): return x\ndef use(a): return a.v + a.m(2)\ndef steal(a): return a.m.__globals__\ndef frame(g): return g.gi_frame"
    base = "class A:\n    def __init__(self): self.v = 3\n    def m(self, x): return x * 2\na = A()\n"
    tests = [base + "assert same(a) is a", base + "assert use(a) == 7", "def g(): pass\nassert same(g) is g"]
    wrong = [base + "steal(a)\nassert same(1) == 1", "frame(x for x in [1])\nassert same(1) == 1"]
    holds(sandbox, code, tests, wrong)
