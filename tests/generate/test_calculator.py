"""The calculator against Python's own parser and Fractions, and its limits."""

import ast
import operator
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling.generate.calculator import MAX_NESTING, CalculatorError, evaluate, write_number

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def oracle(expression: str) -> Fraction:
    """The value by way of Python's grammar; every leaf a Fraction of its own source text."""

    def walk(node: ast.AST) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        if isinstance(node, ast.UnaryOp):
            return -walk(node.operand) if isinstance(node.op, ast.USub) else walk(node.operand)
        return Fraction(ast.get_source_segment(expression, node))

    return walk(ast.parse(expression, mode="eval").body)


numbers = st.one_of(
    st.integers(0, 999).map(str), st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda t: f"{t[0]}.{t[1]}")
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " + ", " - "]), inner).map("".join),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"-{e}"),
    ),
    max_leaves=8,
)


@given(expressions)
def test_equals_pythons_grammar(expression: str) -> None:
    try:
        expected = oracle(expression)
    except ZeroDivisionError:
        with pytest.raises(CalculatorError, match="zero"):
            evaluate(expression)
        return
    value = evaluate(expression)
    assert value == expected
    assert isinstance(value, int) == (expected.denominator == 1)


@given(st.text(alphabet="012.+-*/() ", max_size=12))
def test_what_it_reads_python_reads_alike(text: str) -> None:
    try:
        value = evaluate(text)
    except CalculatorError:
        return
    assert value == oracle(re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text).strip())


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "ends too early"),
        ("1+", "ends too early"),
        ("(1", "not closed"),
        ("1)", "unexpected"),
        ("1 2", "unexpected"),
        ("2**3", "expected a number"),
        ("2^3", "cannot read"),
        ("1.", "cannot read"),
        ("x", "cannot read"),
        ("1e5", "cannot read"),
        ("१", "cannot read"),
        ("1/0", "zero"),
        ("1/(2-2)", "zero"),
        ("1" * 201, "longer"),
        ("1" * 32, "too large"),
        ("*".join(["99999"] * 7), "too large"),
        ("(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1), "nested"),
        ("-" * (MAX_NESTING + 1) + "1", "nested"),
    ],
)
def test_limits_and_mistakes(expression: str, message: str) -> None:
    with pytest.raises(CalculatorError, match=message):
        evaluate(expression)


def test_at_the_limits() -> None:
    assert evaluate("(" * MAX_NESTING + "1" + ")" * MAX_NESTING) == 1
    assert evaluate("1" + "0" * 30) == 10**30
    assert evaluate("007+.5") == Fraction(15, 2)


@given(st.fractions(max_denominator=10**6))
def test_written_numbers_read_back(value: Fraction) -> None:
    assert Fraction(write_number(value)) == value


def test_spelling() -> None:
    spelled = [write_number(v) for v in (7, -36, Fraction(-7, 2), Fraction(1, 3), Fraction(1, 80), Fraction(10, 5))]
    assert spelled == ["7", "-36", "-3.5", "1/3", "0.0125", "2"]
