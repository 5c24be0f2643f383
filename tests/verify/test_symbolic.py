"""Algebra, and the guard on what math-verify calls equal."""

import pytest

from thinkling.verify import symbolic
from thinkling.verify.answers.notation import plain
from thinkling.verify.answers.numbers import Unreadable


def same(reference: str, answer: str) -> bool:
    return symbolic.compare(plain(reference), plain(answer), "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{50}", r"5\sqrt{2}"),
        (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt5}{4}"),
        ("x^2+2x+1", "(x+1)^2"),
        ("0.5x", r"\frac{x}{2}"),
        (r"\ln 8", r"3\ln 2"),
        ("y = 2x + 3", "2x - y + 3 = 0"),
        ("2x + y < 3", "3 > y + 2x"),
        ("1+2i", "2i+1"),
        ("i^2", "-1"),
        (r"\frac{\pi}{4}", "0.7854"),
        (r"\{1\pm\sqrt{5}, -2\}", r"\{-2, 1-\sqrt5, 1+\sqrt5\}"),
        ("K", r"\frac{K^2}{K}"),
        (r"(-\sqrt{3}, \sqrt{3})", r"-\sqrt3 < x < \sqrt3"),
    ],
)
def test_equal_in_both_orders(one: str, other: str) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("3^{200} - 1", "3^{200}"),
        ("10^{100} + 10^{-100}", "10^{100}"),
        ("e^{-50}", "e^{-51}"),
        (r"\frac{\pi}{4}", "0.7855"),
        (r"\frac{\pi}{4}", "0.785"),
        ("2k", "2m"),
        ("x^2 = 4", "x = 2"),
        ("2x + y < 3", "2x + y > 3"),
        (r"2x + y \le 3", "2x + y < 3"),
        ("y = 2x + 3", "x = 2y + 3"),
        ("1+2i", "1-2i"),
        ("f(4-x)", "f(x-4)"),
    ],
)
def test_different_in_both_orders(one: str, other: str) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_the_guard_is_needed() -> None:
    """Otherwise it only costs time."""
    from math_verify import parse, verify

    tiny = [parse(f"${text}$", parsing_timeout=None) for text in (r"\frac{1}{2004!}", r"\frac{1}{2006!}")]  # type: ignore[arg-type]
    assert verify(*tiny, timeout_seconds=None)


def test_what_cannot_be_read() -> None:
    with pytest.raises(symbolic.Undecided, match="reference"):
        same(r"\frac\sqrt", "5")
    with pytest.raises(Unreadable):
        same(r"\sqrt{2}", r"\frac\sqrt")
