"""Written rows of answers.jsonl: a reference, a reply and the outcome that follows from their construction.

No verifier is involved: a value is drawn first, then written twice (right) or written with a fault (wrong).
Used only by make_answers.py, once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

Row = tuple[str, str, str] | tuple[str, str, str, str] | tuple[str, str, str, str, str]
"""Reference, reply, expected outcome; question and verifier if they matter."""
KINDS: dict[str, Callable[[random.Random], Iterator[Row]]] = {}
R, W, U = "right", "wrong", "unverifiable"


def kind(function: Callable[[random.Random], Iterator[Row]]) -> Callable[[random.Random], Iterator[Row]]:
    KINDS[function.__name__.replace("_", "-")] = function
    return function


def box(content: str) -> str:
    return rf"So $\boxed{{{content}}}$."


def both(one: str, other: str, question: str = "") -> Iterator[Row]:
    """One value written in two ways, right in both orders."""
    yield one, box(other), R, question
    yield other, box(one), R, question


def neither(one: str, other: str, question: str = "") -> Iterator[Row]:
    yield one, box(other), W, question
    yield other, box(one), W, question


def two(rng: random.Random, low: int = 2, high: int = 99) -> tuple[int, int]:
    one, other = rng.sample(range(low, high), 2)
    return one, other


JOINTS = [
    r"$\boxed{A}$ or $\boxed{B}$",
    r"$\boxed{A} \quad \text{or} \quad \boxed{B}$",
    r"\(\boxed{A}\) or \(\boxed{B}\)",
    r"\[\boxed{A}\] or \[\boxed{B}\]",
    r"$$\boxed{A} \quad \text{and} \quad \boxed{B}$$",
    r"\boxed{A} \text{ or } \boxed{B}",
    r"$\boxed{A}$ and also $\boxed{B}$",
    r"\boxed{A}; \boxed{B}",
    r"\boxed{A} / \boxed{B}",
    r"\boxed{A} & \boxed{B}",
    r"\boxed{A} \\ \boxed{B}",
    "$\\boxed{A}$\n\n$\\boxed{B}$",
    "- $\\boxed{A}$\n- $\\boxed{B}$",
    "1. $\\boxed{A}$\n2. $\\boxed{B}$",
    "Solution 1: $\\boxed{A}$\nSolution 2: $\\boxed{B}$",
    r"$x = \boxed{A}$ or $x = \boxed{B}$",
    r"$x_1 = \boxed{A},\; x_2 = \boxed{B}$",
    r"It is $\boxed{A}$, or possibly $\boxed{B}$.",
    r"$\boxed{A}$. Alternatively, $\boxed{B}$.",
    r"It is either $\boxed{A}$ or it is $\boxed{B}$.",
    r"$\boxed{A}$ as well as $\boxed{B}$",
    r"$\boxed{A} \lor \boxed{B}$",
    r"$\boxed{A} \,\vee\, \boxed{B}$",
    r"答案是 $\boxed{A}$ 或 $\boxed{B}$。",
    r"The answer is A or B.",
    "#### A or B",
    r"\boxed{A \text{ or } B}",
    r"\boxed{A, B}",
    r"<answer>A or B</answer>",
]
REVISIONS = [
    "At first it looks like $\\boxed{A}$. No, that counts one case twice.\n\nTherefore the answer is $\\boxed{B}$.",
    "The first part is $\\boxed{A}$. Taking that into the second equation and solving it for the number that was asked "
    "for, the result is then $\\boxed{B}$.",
    "$\\boxed{A}$ — wait, I dropped a term. The correct value is $\\boxed{B}$.",
    "So $\\boxed{A}$. Actually, that is the wrong sign; it should be $\\boxed{B}$.",
]


def joined(text: str, one: object, other: object) -> str:
    """Replaces A and B only as separate words, so that other capitals are kept."""
    return re.sub(r"(?<![A-Za-z])A(?![a-z])", str(one), re.sub(r"(?<![A-Za-z])B(?![a-z])", str(other), text))


@kind
def several_answers(rng: random.Random) -> Iterator[Row]:
    for joint in JOINTS:
        one, other = two(rng)
        yield str(one), joined(joint, one, other), W
        yield str(other), joined(joint, one, other), W
        if "either" not in joint and "possibly" not in joint and "Alternatively" not in joint:
            yield f"{one}, {other}", joined(joint, one, other), R
            yield f"{one}, {other + 1}", joined(joint, one, other), W
    for joint in (
        r"\boxed{A} or B",
        r"\boxed{A}, or B.",
        "A or $\\boxed{B}$",
        "Answer: A\nAnswer: B",
        "#### A\n#### B",
    ):
        one, other = two(rng)
        yield str(one), joined(joint, one, other), W
        yield str(other), joined(joint, one, other), W
    for text in REVISIONS:
        one, other = two(rng)
        yield str(other), joined(text, one, other), R
        yield str(one), joined(text, one, other), W
    yield "B", r"\boxed{B} or \boxed{D}", W
    yield "D", r"The answer is (B) 12 or (D) 20.", W
    yield "B", r"The answer is (B) 12 or (D) 20.", W


@kind
def same_answer_twice(rng: random.Random) -> Iterator[Row]:
    for joint in JOINTS[:24]:
        if any(word in joint for word in ("either", "/", "x_1")):
            continue
        one, other = two(rng)
        yield str(one), joined(joint, one, one), R
        yield str(other), joined(joint, one, one), W
    for one, other in [
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{3}{4}", "75\\%"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("1{,}200", "1200"),
        ("x^2+x", "x(x+1)"),
    ]:
        yield one, rf"$\boxed{{{one}}}$, or $\boxed{{{other}}}$", R
        yield other, f"$$\\boxed{{{one}}}$$\n$$\\boxed{{{other}}}$$", R
        yield other + "+1" if "x" in other else "7", f"$$\\boxed{{{one}}}$$\n$$\\boxed{{{other}}}$$", W
    yield "4, 9", "$\\boxed{4, 9}$\n\n$\\boxed{4, 9}$", R
    yield "C", "\\boxed{C}\n\n\\boxed{C}", R
    yield "C", "\\boxed{C}\n\n\\boxed{A}", W


@kind
def beside_the_box(rng: random.Random) -> Iterator[Row]:
    for before in ("c = -", "= -", "-", r"\text{the sum is } -", "x = - "):
        n = rng.randrange(2, 999)
        yield str(n), rf"so ${before}\boxed{{{n}}}$.", W
        yield str(-n), rf"so ${before}\boxed{{{n}}}$.", R
    for text, value in [
        (r"$\boxed{A}\%$", "A\\%"),
        (r"$\boxed{A}$%", "A\\%"),
        (r"$\boxed{A}$ percent", "A\\%"),
        (r"$\boxed{A}^\circ$", r"A^\circ"),
        (r"$\boxed{A}$ cm", r"A\text{ cm}"),
        (r"$\boxed{A}\text{ cm}$", r"A\text{ cm}"),
        (r"$\boxed{A}$ square feet", r"A\text{ square feet}"),
        (r"\$\boxed{A}", r"\$A"),
        (r"$\boxed{A}$ miles per hour", r"A\text{ mph}"),
        (r"$\boxed{A}$ million", "A000000"),
        (r"$\pm\boxed{A}$", r"\pm A"),
        (r"$\boxed{A}\pi$", r"A\pi"),
        (r"$\boxed{A}\sqrt{3}$", r"A\sqrt{3}"),
    ]:
        one, other = two(rng, 12, 90)
        yield value.replace("A", str(one)), "It is " + text.replace("A", str(one)) + ".", R
        yield value.replace("A", str(other)), "It is " + text.replace("A", str(one)) + ".", W
    for reference, reply in [
        (r"25\%", r"\boxed{0.25}\%"),
        ("0.25", r"\boxed{0.25}\%"),
        (r"7\text{ m}", r"$\boxed{7}$ cm"),
        (r"7\text{ kg}", r"$\boxed{7}\text{ g}$"),
        ("12", r"$\boxed{12}\pi$"),
        ("12", r"$\boxed{12}\sqrt{2}$"),
        ("7", r"$\pm\boxed{7}$"),
        ("31", r"$\boxed{31}$ million"),
        (r"\$18", r"$\boxed{18}$ cents"),
        ("16", r"$\sqrt{\boxed{16}}$"),
    ]:
        yield reference, f"It is {reply}.", W
    yield "5", "There are $\\boxed{5}$ apples in the basket.", R
    yield "5", "It takes $\\boxed{5}$ in all.", R
    yield "48", r"$100 - 52 = \boxed{48}$", R
    yield "0.25", r"It is $\boxed{25}\%$.", R
    yield "7", r"There are $\boxed{7}$, which is $-3 + 10$.", R


@kind
def later_mark(rng: random.Random) -> Iterator[Row]:
    for text in [
        "The interest is $\\boxed{A}$. Together that makes B.\nFinal Answer: The final answer is $B$.",
        "The interest is $\\boxed{A}$.\n#### B",
        "First, $\\boxed{A}$ marbles are left.\n\nAnswer: B",
        "#### A\nThat was the first half.\n\nThe answer is B.",
        "#### A\nBoth together: $\\boxed{B}$.",
        "The answer is A for the first day.\n\n**Final Answer:** B",
        "So $\\boxed{A}$ for one.\n<answer>B</answer>",
        "一共 $\\boxed{A}$。\n答案：B",
    ]:
        for _ in range(2):
            one, other = two(rng, 2, 999)
            yield str(other), joined(text, one, other), R
            yield str(one), joined(text, one, other), W
    yield "C", "The value is \\boxed{8}.\n#### C", R
    yield "8", "The value is \\boxed{8}.\n#### C", W
    yield "12", "So $\\boxed{12}$. This answer is consistent with the table.", R
    yield "12", "So $\\boxed{12}$. The answer is correct.", R


def grouped(n: int, mark: str) -> str:
    return f"{n:,}".replace(",", mark)


@kind
def thousands(rng: random.Random) -> Iterator[Row]:
    for mark in (
        ",",
        r",\!",
        r",\! ",
        r"\,",
        "{,}",
        r"\ ",
        r"\;",
        " ",
        "\u202f",
        "\u2009",
        "\u00a0",
        "'",
        "\u2019",
        "~",
    ):
        n = rng.randrange(10_000, 10**9)
        yield from both(str(n), grouped(n, mark))
        yield str(n + 10 ** rng.randrange(4)), box(grouped(n, mark)), W
        yield grouped(n, mark), box(str(n // 10)), W
    n = rng.randrange(10**6, 10**9)
    yield from both(str(n), grouped(n, "."))
    yield from both("1234567", "12,34,567")
    yield from both("1234.5", "1.234,5")
    yield str(n + 1), box(grouped(n, ".")), W
    yield "32,\\! 349", box("\\{32, 349\\}"), W
    yield "32,\\! 349", box("(32, 349)"), W
    yield "32349", box("32, 349"), W
    yield "32.349", box("32,349"), W


NAMES = ["x", "y", "z", "a", "b", "c", "m", "n", "p", "q", "k", "t"]


@kind
def mapping_order(rng: random.Random) -> Iterator[Row]:
    for _ in range(9):
        first, second = rng.choice([("x", "a"), ("y", "b"), ("t", "k"), ("n", "c"), ("z", "p"), ("q", "b")])
        one, other = two(rng)
        reference = f"{first} = {one}, {second} = {other}"
        yield reference, box(f"({one}, {other})"), R
        yield reference, box(f"({other}, {one})"), W
        yield reference, box(f"{second} = {other}, {first} = {one}"), R
        yield reference, box(f"{first} = {other}, {second} = {one}"), W
        yield f"({one}, {other})", box(reference), R
        yield f"({other}, {one})", box(reference), W


@kind
def tuple_of_names(rng: random.Random) -> Iterator[Row]:
    for names in ("m,n", "p,q", "a, b, c", "x,y", "x, y, z", "r,s"):
        count = names.count(",") + 1
        values = [str(v) for v in rng.sample(range(1, 60), count)]
        turned = values[1:] + values[:1]
        reference = f"({names}) = ({', '.join(values)})"
        pieces = ", ".join(f"{name.strip()} = {value}" for name, value in zip(names.split(","), values, strict=True))
        yield from both(reference, f"({', '.join(values)})")
        yield from both(reference, pieces)
        yield from neither(reference, f"({', '.join(turned)})")
        yield reference, box(f"({names}) = ({', '.join(turned)})"), W
        yield reference, box(rf"\{{{', '.join(values)}\}}"), W


@kind
def named_quantity(rng: random.Random) -> Iterator[Row]:
    for name in (
        "f(3)",
        "|z|",
        "P(X>2)",
        "a_{10}",
        r"\overline{AB}",
        r"\angle ABC",
        "f'(2)",
        "f^{-1}(5)",
        r"S_{\triangle ABC}",
        "AB",
        "|AB|",
        r"\text{Area}",
        r"\sin A",
        "S_{5}",
        "g(f(1))",
        r"E(X)",
    ):
        one, other = two(rng, 2, 60)
        yield from both(f"{name} = {one}", str(one))
        yield from neither(f"{name} = {one}", str(other))
    yield "f(2) = 7", box("f(3) = 7"), W
    yield "f(2) = 7", box("g(2) = 7"), W
    yield from both(r"\angle B = 35^\circ", r"35^\circ")
    yield from neither(r"\angle B = 35^\circ", r"53^\circ")
    yield from both("V_1:V_2 = 5:8", "5:8")
    yield from neither("V_1:V_2 = 5:8", "8:5")
    yield from both("|z| = \\sqrt{5}", "\\sqrt{5}")
    yield "y = 2x + 3", box("3"), W
    yield "x^2 = 49", box("49"), W


@kind
def repeating_decimals(rng: random.Random) -> Iterator[Row]:
    for _ in range(8):
        period = rng.choice(["3", "6", "45", "27", "18", "142857", "09", "123", "7"])
        lead, whole = rng.choice(["", "", "1", "02"]), rng.choice([0, 0, 3, 12])
        scale = 10 ** len(lead)
        value = whole + Fraction(int(lead or 0), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
        fraction = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        dots = rf"\dot{{{period}}}" if len(period) == 1 else rf"\dot{{{period[0]}}}{period[1:-1]}\dot{{{period[-1]}}}"
        spelling = rng.choice(
            [rf"\overline{{{period}}}", rf"\overline{{{period}}}", dots, f"({period})", rf"\bar{{{period}}}"]
        )
        yield from both(fraction, f"{whole}.{lead}{spelling}")
        if whole == 0 and len(lead + period) < 4:
            yield fraction, box(f"{whole}.{lead}{period}"), W
        yield rf"\frac{{{value.numerator + 1}}}{{{value.denominator}}}", box(f"{whole}.{lead}{spelling}"), W
        yield f"{whole}.{lead}{spelling}", box(f"{whole}.{lead}0{spelling}"), W
    yield from both(r"\frac{1}{3}", r"0.333\ldots")
    yield from both(r"\frac{1}{6}", "0.1666...")
    yield from neither(r"\frac{1}{3}", "0.33")
    yield from neither(r"\frac{4}{11}", "0.36")
    yield from neither(r"0.3\overline{6}", r"0.\overline{36}")
    yield from both(r"-\frac{2}{3}", r"-0.\overline{6}")
    yield from neither(r"\frac{2}{3}", r"-0.\overline{6}")


@kind
def currency_after(rng: random.Random) -> Iterator[Row]:
    for text in (
        r"A\$",
        r"\text{A dollars}",
        "₹A",
        r"A\text{ USD}",
        "A€",
        "€A",
        "£A",
        r"A \text{ euros}",
        r"\text{Rs. }A",
        r"US\$A",
        "A元",
        "￥A",
    ):
        one, other = two(rng, 12, 900)
        yield str(one), box(text.replace("A", str(one))), R
        yield str(other), box(text.replace("A", str(one))), W
        yield text.replace("A", str(one)), box(str(one)), R
    yield "640", "The answer is 640$.", R
    yield "64", "The answer is 640$.", W
    yield from neither("€25", r"25\$")
    yield from neither("₹25", "£25")
    yield from both(r"\$25", r"25\$")
    yield from neither(r"\$25", "25¢")


@kind
def approximation(rng: random.Random) -> Iterator[Row]:
    for exact, about, near in [
        (r"\frac{2}{7}", "0.286", r"\frac{3}{7}"),
        (r"\frac{1}{3}", "0.333", r"\frac{1}{4}"),
        (r"\sqrt{2}", "1.41", r"\sqrt{3}"),
        (r"3\sqrt{2}", "4.24", r"2\sqrt{3}"),
        (r"\frac{\pi}{4}", "0.785", r"\frac{\pi}{3}"),
        (r"\frac{22}{7}", "3.14", r"\frac{21}{7}"),
        (r"5\pi", "15.7", r"6\pi"),
        (r"\frac{5}{8}", "0.63", r"\frac{3}{8}"),
        (r"e^2", "7.389", "e^3"),
        (r"\sqrt[3]{10}", "2.154", r"\sqrt[3]{11}"),
    ]:
        yield exact, box(rf"{exact} \approx {about}"), R
        yield near, box(rf"{exact} \approx {about}"), W
        yield rf"{exact} \approx {about}", box(exact), R
        yield rf"{exact} \approx {about}", box(near), W
    yield "11", box(r"x \approx 11"), R
    yield "11", box(r"x \approx 12"), W
    yield "4", box(r"4 \approx 9"), W
    yield "9", box(r"4 \approx 9"), W
    yield r"\frac{1}{3}", box(r"\approx 0.33"), W
    yield r"\sqrt{2}", box("1.41"), W


def matrix(rows: list[list[int]], begin: str, end: str) -> str:
    return begin + r"\\".join("&".join(map(str, row)) for row in rows) + end


@kind
def array_matrix(rng: random.Random) -> Iterator[Row]:
    arrays = [
        (r"\left[\begin{array}{cc}", r"\end{array}\right]"),
        (r"\left(\begin{array}{rr}", r"\end{array}\right)"),
        (r"\begin{bmatrix}", r"\end{bmatrix}"),
        (r"\left[\begin{array}{c|c}", r"\end{array}\right]"),
        (r"\left[\begin{matrix}", r"\end{matrix}\right]"),
        (r"\bigl(\begin{smallmatrix}", r"\end{smallmatrix}\bigr)"),
    ]
    for begin, end in arrays:
        for shape in ((2, 2), (2, 1)):
            rows = [[rng.randrange(-9, 30) for _ in range(shape[1])] for _ in range(shape[0])]
            other = [list(row) for row in rows]
            other[-1][-1] += rng.choice([-1, 1])
            reference = matrix(rows, r"\begin{pmatrix}", r"\end{pmatrix}")
            yield from both(reference, matrix(rows, begin, end))
            yield from neither(reference, matrix(other, begin, end))
    yield from neither(
        matrix([[1, 2], [3, 4]], *arrays[0]), matrix([[1, 3], [2, 4]], r"\begin{pmatrix}", r"\end{pmatrix}")
    )


@kind
def negated_inequality(rng: random.Random) -> Iterator[Row]:
    signs = [("<", ">"), (">", "<"), (r"\le", r"\ge"), (r"\geq", r"\leq")]
    for sign, turned in signs * 2:
        n = rng.randrange(2, 50)
        name = rng.choice("xyt")
        yield from both(f"{name} {sign} {n}", f"-{name} {turned} -{n}")
        yield from neither(f"{name} {sign} {n}", f"-{name} {sign} -{n}")
        yield f"{name} {sign} {n}", box(f"-{name} {turned} {n}"), W
        yield from both(f"{name} {sign} {n}", f"{n} {turned} {name}")
        yield f"{name} {sign} {n}", box(f"{n} {sign} {name}"), W
    yield from neither("x < 4", r"-x \ge -4")
