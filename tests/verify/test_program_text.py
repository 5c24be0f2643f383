"""The program in a reply, wherever it is. Tests are named after the ways in which the wrong text was taken."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.strangers import extraction
from thinkling.data.reading import Reading
from thinkling.verify.fences import fenced_blocks
from thinkling.verify.program import read_program
from thinkling.verify.program_text import find_program, needed_names

TWICE = "def twice(n):\n    return n * 2\n"
NEEDED = frozenset({"twice"})


@pytest.mark.parametrize("row", extraction.read(), ids=lambda row: row["kind"].replace(" ", "-"))
def test_the_program_of_a_reply(row: dict) -> None:
    assert extraction.equal(read_program(Reading.of(row["reply"]), row["tests"]), row["program"])


@pytest.mark.parametrize("info", ["python", "py", "python3", "Python3.12", "py3", "{.python}", "{python}", "twice.py"])
@pytest.mark.parametrize("fence", ["```", "`````", "~~~"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spellings_of_a_python_fence(info: str, fence: str, end: str) -> None:
    reply = f"Before:\n```sh\npip list\n```\n\n{fence}{info}\n{TWICE}{fence}\nAfter:\n```\n8\n```\n"
    assert find_program(reply.replace("\n", end), NEEDED) == TWICE


def test_a_closing_fence_is_as_long_as_the_opening_one_and_says_nothing() -> None:
    assert [b.text for b in fenced_blocks("````\n```\n````x\n````` \nafter")] == ["```\n````x\n"]
    assert [b.text for b in fenced_blocks("~~~\n```\n~~~")] == ["```\n"]
    assert fenced_blocks("``` a`b\n") == []


def test_a_fence_without_an_end_runs_to_the_end() -> None:
    assert [(b.info, b.text) for b in fenced_blocks("text\n```python\nx = 1")] == [("python", "x = 1\n")]


def test_a_block_in_a_quotation_ends_with_it() -> None:
    assert [b.text for b in fenced_blocks("> ```python\n> x = 1\nprose\n")] == ["x = 1\n"]


def test_names_of_the_tests_that_a_program_has_to_define() -> None:
    tests = ["import math", "def check(f):\n    assert f(2) == math.pi", "check(area)", "x = [y for y in range(3)]"]
    assert needed_names(tests) == {"area"}
    assert needed_names(["assert f(", "assert g(1)"]) == {"g"}


def test_a_later_definition_counts_and_earlier_names_stay() -> None:
    reply = f"```python\nK = 3\ndef twice(n):\n    return K\n```\nNo:\n```python\n{TWICE}```\n"
    assert find_program(reply, NEEDED) == TWICE
    first = "K = 2\ndef twice(n):\n    return n * 3\n"
    second = "def twice(n):\n    return n * K\n"
    joined = find_program(f"```python\n{first}```\nNo:\n```python\n{second}```\n", NEEDED)
    assert joined == f"{first}\n{second}"


def test_two_wanted_names_in_two_blocks() -> None:
    reply = "```python\ndef a():\n    return 1\n```\n```python\ndef b():\n    return 2\n```\n```python\nprint(a())\n```"
    assert find_program(reply, {"a", "b"}) == "def a():\n    return 1\n\ndef b():\n    return 2\n"


def test_an_import_of_the_program_itself_is_an_example() -> None:
    reply = f"```python\n{TWICE}```\n```python\nfrom my_module import twice\nprint(twice(2))\n```"
    assert find_program(reply, NEEDED) == TWICE
    assert find_program("```python\nfrom math import gcd\n```\nThat is all.", {"gcd"}) == "from math import gcd\n"


def test_a_program_that_reads_input_is_taken_before_its_example() -> None:
    program = "n = int(input())\nprint(n * 2)\n"
    reply = f"```python\n{program}```\nExample:\n```\n4\n```\ngives\n```\n8\n```\nor\n```python\nprint(8)\n```"
    assert find_program(reply) == program
    assert find_program(f"```\n{program}```\nFor 4:\n```\n8\n```") == program


def test_a_broken_block_is_passed_over_where_another_compiles() -> None:
    assert find_program(f"```python\n{TWICE}```\n```python\ndef twice(n:\n```", NEEDED) == TWICE
    assert find_program("```python\ndef twice(n:\n```\n```python\nprint(3)\n```", NEEDED) == "def twice(n:\n"


def test_code_that_does_not_compile_is_still_the_answer() -> None:
    assert find_program("def twice(n) return", NEEDED) == "def twice(n) return"
    assert find_program("I would define twice.", NEEDED) is None


def test_assignments_of_a_shell_are_no_program() -> None:
    assert find_program("```bash\nN=3\n```") is None


def test_a_future_import_in_a_later_block() -> None:
    first, second = (
        "def half(n):\n    return n / 2\n",
        "from __future__ import annotations\ndef twice(n):\n    half(n)\n",
    )
    found = find_program(f"```python\n{first}```\n```python\n{second}```", NEEDED)
    assert found == second


_LINES = st.sampled_from(
    [
        "```",
        "```python",
        "~~~",
        "````",
        "> ```",
        "- ```py",
        "x = 1",
        "def f():",
        "    return 1",
        '"""',
        ">>> f()",
        "",
        "a b",
    ]
)


@given(st.lists(_LINES | st.text(max_size=12), max_size=14), st.sampled_from([frozenset(), frozenset({"f"})]))
def test_lines_of_a_program_are_lines_of_the_reply(lines: list[str], needed: frozenset[str]) -> None:
    reply = "\n".join(lines)
    found = find_program(reply, needed)
    if found is not None:
        normal = reply.replace("\r\n", "\n").replace("\r", "\n")
        assert all(line.strip() in normal for line in found.split("\n"))


@given(st.text(alphabet="ab(=\n", max_size=30))
def test_a_block_is_found_among_any_prose(prose: str) -> None:
    found = find_program(f"{prose}\n```python\n{TWICE}```\n{prose}", NEEDED)
    assert found is not None
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(TWICE))
