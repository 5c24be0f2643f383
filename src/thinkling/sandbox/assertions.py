"""Tests in the form `assert call == expected`, taken apart so that the expected values never meet the program.

A test that runs beside the program it judges can be fooled: the program patches a builtin, returns an object that
equals everything, or prints what the test would. So each assertion is read in a run of its own, without the program:
the side that can be evaluated there is the expected value. The program's run evaluates the other side alone, and the
caller compares the two texts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from thinkling.sandbox.values import canonical


class Check(NamedTuple):
    """One thing to do in the program's run. `expected` is the text of a value, or None where any value passes."""

    kind: Literal["run", "value", "truth"]
    source: str
    expected: str | None


def read(source: str, namespace: dict[str, Any]) -> list[Check]:
    """Splits a test's statements. Runs inside the sandbox: it evaluates what the test says. SyntaxError: no Python."""
    return list(_read(source, namespace))


def _read(source: str, namespace: dict[str, Any]) -> Iterator[Check]:
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
                yield _equality(statement, left, right, namespace)
            case ast.Assert(test=test):
                yield Check("truth", ast.unparse(test), canonical(True))
            case _:
                text = ast.unparse(statement)
                _try(compile(text, "<test>", "exec"), namespace)  # a helper that later expected values use
                yield Check("run", text, None)


def _equality(statement: ast.Assert, left: ast.expr, right: ast.expr, namespace: dict[str, Any]) -> Check:
    """Which side stands without the program? Where neither does, the comparison itself has to run beside it."""
    for expected, call in ((right, left), (left, right)):
        found, value = _try(compile(ast.Expression(expected), "<test>", "eval"), namespace)
        text = canonical(value)
        if found and " at 0x" not in text:  # an object without value: it can only be compared where it lives
            return Check("value", ast.unparse(call), text)
    return Check("truth", ast.unparse(statement.test), canonical(True))


def _try(code: Any, namespace: dict[str, Any]) -> tuple[bool, Any]:
    try:
        return True, eval(code, namespace)  # in the sandbox
    except Exception:  # whatever it raises, it does not stand without the program
        return False, None
