"""More kinds for written_answers.py: wording, notation, Chinese, algebra."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.strangers.written_answers import R, Row, W, both, box, kind, neither, two


@kind
def tags_and_headings(rng: random.Random) -> Iterator[Row]:
    for text in (
        "Some work.\n\n### Final Answer\nA",
        "<think>t</think><answer>A</answer>",
        "####: A",
        "N + M = **A**",
        "It sums.\n\nAnswer:\n\nA",
        "It sums.\n\n**Final Answer:** A ✅",
        "Hence the final answer should be **A**.",
        "Some work.\n\n**Final Answer**\n\n$A$",
        "Some work.\n\n## Answer\n\n**A**",
        "Some work.\n<answer>\nA\n</answer>",
        "The answer is:\n$$A$$",
        "Thus the answer is\n\\[\nA\n\\]",
        "Some work.\n\nFinal answer: $A$.",
        "**Answer**: A",
        "The final result is A.",
        "#### **A**",
        "The correct answer is therefore A.",
    ):
        value, other = two(rng, 20, 400)
        text = text.replace("N", str(value - 7)).replace("M", "7")
        for reference, expected in ((value, R), (other, W)):
            filled = text.replace("Answer", "§").replace("A", str(value)).replace("§", "Answer")
            yield str(reference), filled, expected


@kind
def last_number(rng: random.Random) -> Iterator[Row]:
    for text in (
        "Tom had B marbles and won C, so now he has A marbles.",
        "Final Answer: The area of the field is A.",
        "After B days she has A coins left.",
        "It is B + C = A",
        "With B boxes of C pens there are $A pens",
        "She pays $A for the C tickets of B rows, that is $A.",
        "A",
        "The answer is that he walks A miles.",
        "So of the B people A remain.",
        "They sell A.",
        "Sum: B and C make A.",
        "In the end, A km are left to walk.",
        "Altogether that is A.",
        "So the boat is A feet long",
        "Then B - C leaves A!",
    ):
        one, other = two(rng, 5, 60)
        value = one + other
        filled = text.replace("Answer", "§").replace("Altogether", "¤").replace("After", "£")
        for letter, n in (("A", value), ("B", one), ("C", other)):
            filled = filled.replace(letter, str(n))
        filled = filled.replace("§", "Answer").replace("¤", "Altogether").replace("£", "After")
        yield str(value), filled, R, "", "maths-last-number"
        yield str(one), filled, W, "", "maths-last-number"
    yield "42", "He has 41 or 42 marbles.", W, "", "maths-last-number"
    yield "41", "He has 41 or 42 marbles.", W, "", "maths-last-number"
    yield "41", "Tom had 30 marbles and won 11, so now he has -41 marbles.", W, "", "maths-last-number"


WIDE = str.maketrans("0123456789-+.,()%=:ABCDx", "０１２３４５６７８９－＋．，（）％＝：ＡＢＣＤｘ")


@kind
def full_width(rng: random.Random) -> Iterator[Row]:
    for text in ("A", "-A", "A.5", "(A,3)", "A%", "A:5", "x=A", "{A,3}", "[A,90)", "1.5,A"):
        one, other = two(rng, 11, 80)
        for n, expected in ((one, R), (other, W)):
            yield (
                text.replace("A", str(n)).replace("%", r"\%").replace("{", r"\{").replace("}", r"\}"),
                box(text.replace("A", str(one)).replace("{", r"\{").replace("}", r"\}").translate(WIDE)),
                expected,
            )
    for letter, other in ("AB", "BC", "CD", "DA"):
        yield letter, box(letter.translate(WIDE)), R
        yield other, box(letter.translate(WIDE)), W
    yield r"\frac{1}{2}", box("１／２"), R
    yield "12345", box("１２，３４５"), R
    yield "3", box("３，５"), W
    yield "5", box("３，５"), W


@kind
def chinese(rng: random.Random) -> Iterator[Row]:
    for text in (
        "答案：A",
        "答案是A。",
        "答案为 $A$。",
        "所以答案是 A 。",
        "最终答案：A",
        "计算可得。\n\n答案：A",
        "故答案为：A",
        "因此，答案为A。",
        "故填 $A$。",
        "答：A",
        "\\boxed{A元}",
        "\\boxed{A个}",
        "\\boxed{A\\text{ 元}}",
        "\\boxed{A}元",
        "共有 $\\boxed{A}$ 个。",
        "【答案】A",
        "综上，答案是：$A$",
        "**答案**：A",
    ):
        one, other = two(rng, 11, 400)
        yield str(one), text.replace("A", str(one)), R
        yield str(other), text.replace("A", str(one)), W
    for text in ("故选：A", "故选A。", "选 A", "正确答案是 A。", "答案选A", "应选（A）", "故选(A).", "因此选择 A。"):
        letter, other = rng.sample("BCD", 2)
        yield letter, text.replace("A", letter), R
        yield other, text.replace("A", letter), W
    for one, other in (
        ("4, 7", "4、7"),
        ("4, 7", "4或7"),
        ("4, 7", "4和7"),
        ("4, 7", r"4 \text{ 或 } 7"),
        ("4, 7", r"x_1=4，x_2=7"),
    ):
        yield from both(one, other)
        yield "4", box(other), W
        yield "7", box(other), W
    yield from both("5 km", "5千米")
    yield from both("500 cm", "5米")
    yield from neither("5 km", "5厘米")
    yield from both("30000", "3万")
    yield from neither("3", "3万")
    yield from both(r"\text{no solution}", "无解")
    yield from both("12 cm^2", "12平方厘米")
    yield from neither("12 cm^2", "12立方厘米")
    yield "4", "答案是4或7。", W
    yield "4", "\\boxed{4}或\\boxed{7}", W


@kind
def other_notation(rng: random.Random) -> Iterator[Row]:
    for _ in range(5):
        n, other = two(rng, 3, 40)
        yield from both(rf"\log_{{10}} {n}", rf"\lg {n}")
        yield from neither(rf"\log_{{10}} {n}", rf"\lg {other}")
        yield from both(rf"\binom{{{n}}}{{2}}", f"C_{{{n}}}^{{2}}")
        yield from neither(rf"\binom{{{n}}}{{2}}", f"C_{{{n}}}^{{3}}" if n != 5 else "C_5^4")
        yield str(n * (n - 1) // 2), box(f"C_{{{n}}}^{{2}}"), R
        yield str(n * (n - 1)), box(f"C_{{{n}}}^{{2}}"), W
    yield from both(r"\binom{n}{2}", "C_n^2")
    yield from both(r"\binom{n}{2}", r"\frac{n(n-1)}{2}")
    yield from neither(r"\binom{n}{2}", r"\frac{n(n+1)}{2}")
    yield from both(r"\tan 2", r"\tg 2")


@kind
def type_marks(rng: random.Random) -> Iterator[Row]:
    for text in (
        r"\color{red}{A}",
        r"\textcolor{blue}{A}",
        r"\large A",
        "{A}",
        r"A\ ",
        r"{\bf A}",
        r"\underline{A}",
        r"\mathbf{A}",
        r"\displaystyle A",
        r"\bm{A}",
        r"\Large{A}",
        r"\colorbox{yellow}{A}",
        r"\color{red} A",
        r"\mathsf{A}",
        r"\hspace{1cm} A",
        r"\boxed{A}",
        r"\textbf{A}",
        r"\underline{\mathbf{A}}",
        r"\normalsize A",
        r"{{A}}",
        r"\small{A}",
        r"\mathbf{\color{blue}A}",
        r"\ensuremath{A}",
        r"\;A\;",
        r"**A**",
        r"\fcolorbox{red}{white}{A}",
    ):
        n, other = two(rng, 11, 200)
        value = rng.choice([str(n), str(n), rf"\sqrt{{{n}}}"])
        yield value, box(text.replace("A", value)), R
        yield value.replace(str(n), str(other)), box(text.replace("A", value)), W
    yield from both("x^2+1", "{x^2+1}")
    yield from neither("x^2+1", "{x^2-1}")
    yield "7", box(r"\overline{7}8"), W


@kind
def repeated_element(rng: random.Random) -> Iterator[Row]:
    for _ in range(8):
        one, other, third = (str(n) for n in rng.sample(range(2, 60), 3))
        yield from both(rf"\{{{one}, {other}\}}", rf"\{{{one}, {other}, {other}\}}")
        yield from neither(rf"\{{{one}, {other}\}}", rf"\{{{one}, {other}, {third}\}}")
        yield from neither(rf"\{{{one}, {other}\}}", rf"\{{{one}, {one}\}}")
    yield from neither("(3, 5)", "(3, 5, 5)")


@kind
def decimal_comma(rng: random.Random) -> Iterator[Row]:
    for _ in range(10):
        digits = f"{rng.randrange(10, 99)}{rng.randrange(1, 10)}"
        yield from both(f"0.{digits}", f"0,{digits}")
        yield from neither(f"0.{digits}", f"0,{int(digits[:2]) + 1}{digits[2:] if int(digits[:2]) < 99 else '1'}")
    yield from both("1234.56", "1.234,56")
    yield from neither("1234.56", "1.234,65")
    yield from both("3.5", "3{,}5")
    yield from neither("0.375", "0, 375")
    yield "3", box("3,5"), W
    yield "5", box("3,5"), W


@kind
def articles(rng: random.Random) -> Iterator[Row]:
    for words, other in [
        ("small car", "small truck"),
        ("parabola", "circle"),
        ("red ball", "blue ball"),
        ("ellipse", "hyperbola"),
        ("right triangle", "acute triangle"),
        ("even number", "odd number"),
        ("Monday", "Sunday"),
        ("square", "rectangle"),
        ("older brother", "younger brother"),
        ("vertical line", "horizontal line"),
    ]:
        article = "an" if words[0] in "aeiou" else "a"
        yield from both(rf"\text{{{words}}}", rf"\text{{{article} {words}}}")
        yield rf"\text{{{words}}}", box(rf"\text{{the {words}}}"), R
        yield from neither(rf"\text{{{words}}}", rf"\text{{a {other}}}")
        yield rf"\text{{{words}}}", box(rf"\text{{not a {words}}}"), W


@kind
def powers_of_ten(rng: random.Random) -> Iterator[Row]:
    for text in (
        r"M\times10^{E}",
        r"M\cdot10^{E}",
        r"M \times 10^{E}",
        "M×10^E",
        "MeE",
        r"M\cdot 10^{E}",
        "M*10^E",
        r"M\times{10}^{E}",
        "M · 10^{E}",
    ):
        for _ in range(2):
            m, e = rng.choice(["2", "6.02", "3", "1.5", "4.25", "7"]), rng.randrange(2, 9)
            value = f"{float(m) * 10**e:.0f}"
            spelled = text.replace("MeE", f"{m}e{e}").replace("M", m).replace("E", str(e))
            yield from both(value, spelled)
            yield from neither(value + "0", spelled)
    yield from both("0.003", r"3\times10^{-3}")
    yield from neither("0.003", r"3\times10^{-2}")
    yield from both(r"300000000 \text{ m/s}", r"3\times10^8\text{ m/s}")
    yield from neither(r"300000000 \text{ m/s}", r"3\times10^9\text{ m/s}")
    yield "18", box(r"9\times2"), W


@kind
def bases(rng: random.Random) -> Iterator[Row]:
    names = {2: "two", 3: "three", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 16: "sixteen"}
    for text in (
        "A_{(B)}",
        "(A)_B",
        "(A)_{B}",
        r"A_{\text{N}}",
        r"A_{\text{base } B}",
        r"A_{\text{base N}}",
        r"\text{A}_{B}",
        r"A \text{ base } B",
        "A₈",
        "A (base B)",
        "A in base B",
        "A_{B}",
        r"{A}_{B}",
    ):
        base = 8 if "₈" in text else rng.choice([6, 7, 8, 9])
        digits = "".join(str(rng.randrange(1, 6)) for _ in range(rng.choice([2, 3, 4])))
        spelled = text.replace("A", digits).replace("B", str(base)).replace("N", names[base])
        question = f"Write the number in base {base}."
        yield from both(f"{digits}_{base}", spelled, question)
        yield from (
            neither(f"{digits}_{5 if base != 5 else 7}", spelled)
            if max(digits) < "5"
            else neither(f"{digits}_{base + 1}", spelled)
        )
        yield f"{digits}1_{base}", box(spelled), W, question
        yield f"{digits}_{base}", box(str(int(digits, base))), W, question


UP = str.maketrans("0123456789-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ")


@kind
def unicode_forms(rng: random.Random) -> Iterator[Row]:
    for _ in range(6):
        base, power = rng.randrange(2, 9), rng.randrange(10, 16)
        yield str(base**power), box(f"{base}{str(power).translate(UP)}"), R
        yield str(base**power), box(f"{base}{str(power - 1).translate(UP)}"), W
        yield f"10^{{-{base}}}", box(f"10{str(-base).translate(UP)}"), R
        yield f"10^{{{base}}}", box(f"10{str(-base).translate(UP)}"), W
        yield from both(f"x^{{-{base}}}", f"x{str(-base).translate(UP)}")
        yield from neither(f"x^{{{base}}}", f"x{str(-base).translate(UP)}")
    for character, fraction, near in [
        ("⅛", "0.125", "8"),
        ("⅓", "1/3", "1/4"),
        ("¾", "0.75", "3.4"),
        ("⅖", "0.4", "0.25"),
        ("1½", "1.5", "0.5"),
        ("⅞", "7/8", "8/7"),
    ]:
        yield from both(fraction, character)
        yield from neither(near, character)
    yield from both("2^{n}", "2ⁿ")
    yield from neither("2^{n}", "2n")
    yield from both("101_2", "101₂")
    yield from neither("101_2", "101₃")
    yield from both("5 m/s", "5 m·s⁻¹")
    yield from neither("5 m/s", "5 m·s")
    yield from both(r"2\sqrt{3}", "2√3")
    yield from neither(r"2\sqrt{3}", "√23")
    yield from both(r"\frac{\pi}{2}", "π/2")
    yield from both("-7", "−7")
    yield from both(r"x \le 3", "x ≤ 3")


@kind
def percent_and_units(rng: random.Random) -> Iterator[Row]:
    for unit in (
        r"\text{ apples}",
        r"\text{ cm}",
        r"^\circ",
        r"\text{ dollars}",
        r"\text{ hours}",
        r"\text{ m}^2",
        r"\text{ people}",
        r"\text{ kg}",
    ):
        n, other = two(rng, 12, 90)
        yield from neither(rf"{n}\%", f"{n}{unit}")
        yield rf"{n}\%", box(rf"{n}\%"), R
        yield rf"{n}\%", box(rf"{other}\%"), W
    for n in rng.sample(range(11, 90), 5):
        yield from both(rf"{n}\%", f"{n}％")
        yield from neither(rf"{n}\%", f"{n + 1}％")
        yield from both(rf"{n}\%", rf"{n}\text{{ percent}}")
        yield from both(rf"{n}\%", f"0.{n}")
        yield from neither(rf"{n}\%", f"0.0{n}")
    yield r"28\%", box(r"\$28"), W


@kind
def roots_and_logs(rng: random.Random) -> Iterator[Row]:
    for one, other, near in [
        (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}", r"\sqrt{n}"),
        (r"\sqrt{2gh}", r"\sqrt{2g}\sqrt{h}", r"\sqrt{gh}"),
        (r"\sqrt{ab}", r"\sqrt{a}\sqrt{b}", r"\sqrt{a+b}"),
        (r"\sqrt{\frac{2h}{g}}", r"\frac{\sqrt{2h}}{\sqrt{g}}", r"\sqrt{\frac{h}{2g}}"),
        (r"\frac{a}{\sqrt{a}}", r"\sqrt{a}", r"\frac{1}{\sqrt{a}}"),
        (r"\ln(ab)", r"\ln a + \ln b", r"\ln a \ln b"),
        (r"\ln\frac{a}{b}", r"\ln a - \ln b", r"\frac{\ln a}{\ln b}"),
        (r"\frac{\sqrt{x}}{x}", r"\frac{1}{\sqrt{x}}", r"\sqrt{x}"),
        (r"x\sqrt{x}", r"x^{3/2}", r"x^{2/3}"),
        (r"\sqrt[3]{8n}", r"2\sqrt[3]{n}", r"8\sqrt[3]{n}"),
        (r"\sqrt{k^3}", r"k\sqrt{k}", r"k^2\sqrt{k}"),
    ]:
        question = "All letters are positive."
        yield from both(one, other, question)
        yield from neither(one, near, question)
    yield from both(r"2\ln x", r"\ln x^2", "Let x > 0.")
    yield from neither(r"2\ln x", r"(\ln x)^2", "Let x > 0.")
    yield from neither(r"\sqrt{x^2}", "x")
    yield from neither("|x|", "x")
    yield from neither(r"\sqrt{(a-b)^2}", "a-b")


@kind
def factorials(rng: random.Random) -> Iterator[Row]:
    for one, other, near in [
        ("n+1", r"\frac{(n+1)!}{n!}", "n"),
        (r"\frac{1}{(n+1)!}", r"\frac{1}{(n+1) n!}", r"\frac{1}{n \cdot n!}"),
        ("n(n-1)", r"\frac{n!}{(n-2)!}", "n(n+1)"),
        ("n!(n+1)", "(n+1)!", "n!(n+2)"),
        (r"\frac{1}{n+2}", r"\frac{(n+1)!}{(n+2)!}", r"\frac{1}{n+1}"),
        (r"\binom{n}{3}", r"\frac{n!}{3!(n-3)!}", r"\frac{n!}{(n-3)!}"),
        ("(n+2)(n+1)", r"\frac{(n+2)!}{n!}", "(n+2)(n-1)"),
        ("(n+1)!-n!", r"n \cdot n!", "n!"),
    ]:
        yield from both(one, other)
        yield from neither(one, near)
    for n in (4, 5, 6):
        yield str([24, 120, 720][n - 4]), box(f"{n}!"), R
        yield str([24, 120, 720][n - 4]), box(f"{n + 1}!"), W


@kind
def solved_equations(rng: random.Random) -> Iterator[Row]:
    for one, other, near in [
        ("xy=6", r"y=\frac{6}{x}", r"y=\frac{x}{6}"),
        ("2x+y=5", "y=5-2x", "y=5+2x"),
        ("x - 3y = 6", r"y=\frac{x-6}{3}", r"y=\frac{6-x}{3}"),
        ("F=ma", r"a=\frac{F}{m}", r"a=\frac{m}{F}"),
        ("pV=8", r"p=\frac{8}{V}", "p=8V"),
        ("y=2x+3", "2x-y+3=0", "2x+y+3=0"),
        ("x^2y=4", r"y=\frac{4}{x^2}", r"y=\frac{4}{x}"),
        ("4x+6y=10", "2x+3y=5", "2x+3y=10"),
        (r"y=\frac{x}{2}", "x=2y", "y=2x"),
    ]:
        yield from both(one, other)
        yield from neither(one, near)


@kind
def sets_without_a_point(rng: random.Random) -> Iterator[Row]:
    for _ in range(4):
        n = rng.randrange(2, 20)
        union = rf"(-\infty,{n})\cup({n},\infty)"
        for other in (rf"x\ne {n}", rf"\mathbb{{R}}\setminus\{{{n}\}}"):
            yield from both(union, other)
            yield from neither(union.replace(str(n), str(n + 1)), other)
        ray = rf"[{n},\infty)"
        yield from both(ray, rf"\{{x \in \mathbb{{R}} : x \geq {n}\}}")
        yield from neither(ray, rf"\{{x \in \mathbb{{R}} : x > {n}\}}")
        yield from both(ray, rf"\{{x \mid x \geq {n}\}}")
        yield from neither(union, r"\mathbb{R}")
    yield from both(r"(-\infty,1)\cup(1,3)\cup(3,\infty)", r"\mathbb{R}\setminus\{1,3\}")
    yield from both(r"(-\infty,1)\cup(1,3)\cup(3,\infty)", r"x\ne 1, x \ne 3")
    yield from neither(r"(-\infty,1)\cup(1,3)\cup(3,\infty)", r"x\ne 3")


@kind
def choice_letters(rng: random.Random) -> Iterator[Row]:
    for letters, near in (("ABD", "ABC"), ("AC", "AD"), ("BCD", "BC"), ("AB", "ABC"), ("ACD", "BCD"), ("BD", "AB")):
        for text in (",", ", ", "、", r"\text{ and }"):
            if text == r"\text{ and }" and len(letters) > 2:
                continue
            yield from both(letters, text.join(letters))
            yield from neither(near, text.join(letters))
    yield "B", box("B,D"), W
    yield "D", box("B,D"), W
    yield "B", box("B"), R
