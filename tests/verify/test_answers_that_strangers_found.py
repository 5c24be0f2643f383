"""A test per kind of answer that strangers' suites and bug reports found judged wrongly, with its near misses.

`right` and `wrong` hold pairs of reference and reply; a bare answer is put in a box. Pairs of `same` and `other` are
tried in both orders."""

from collections.abc import Iterator

import pytest

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.maths import MathsVerifier
from thinkling.verify.pool import Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(workers=2, deadline_seconds=10)
    yield pool
    pool.close()


class Judge:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def replies(
        self, pairs: list[tuple[str, str]], expected: str, question: str = "", last_number: bool = False
    ) -> None:
        samples = [
            (Problem("0", "maths", question, reference, "", "maths"), Reading.of(reply)) for reference, reply in pairs
        ]
        verdicts = MathsVerifier(last_number=last_number, pool=self.pool).verify_many(samples)
        found = {pair: verdict for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.outcome != expected}
        assert found == {}

    def same(self, *pairs: tuple[str, str], question: str = "") -> None:
        self.replies(_boxed(pairs), "right", question)

    def other(self, *pairs: tuple[str, str], question: str = "") -> None:
        self.replies(_boxed(pairs), "wrong", question)


def _boxed(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [
        (reference, rf"So $\boxed{{{answer}}}$.")
        for one, two in pairs
        for reference, answer in ((one, two), (two, one))
    ]


@pytest.fixture(scope="module")
def judge(pool: Pool) -> Judge:
    return Judge(pool)


NAMING_TWO = [
    r"\boxed{7} \quad \text{or} \quad \boxed{8}",
    r"\(\boxed{7}\) or \(\boxed{8}\)",
    r"\[\boxed{7}\] \[\boxed{8}\]",
    r"\boxed{7}/\boxed{8}",
    r"\boxed{7} & \boxed{8}",
    r"\boxed{7} \\ \boxed{8}",
    r"$\boxed{7}$ and also $\boxed{8}$",
    "(a) $\\boxed{7}$\n(b) $\\boxed{8}$",
    "$x_1 = \\boxed{7}$\n$x_2 = \\boxed{8}$",
    "$\\boxed{7}$ is one possible answer. Another possible answer is $\\boxed{8}$.",
    r"$\boxed{7}$ or 8",
    r"7 or $\boxed{8}$",
    r"\boxed{7 \quad 8}",
    r"\boxed{7 \lor 8}",
    r"\boxed{7}或\boxed{8}",
    "#### 7\n#### 8",
    "Answer: 7\nAnswer: 8",
    "The answer is 7. The answer is 8.",
    "<answer>7</answer> <answer>8</answer>",
    "答案是7或8。",
]


@pytest.mark.parametrize("reply", NAMING_TWO)
def test_naming_several_answers_is_wrong_in_any_spelling(judge: Judge, reply: str) -> None:
    judge.replies([(reference, reply) for reference in ("7", "8", "78", "56")], "wrong")


def test_several_boxes_are_the_list_that_the_reference_is(judge: Judge) -> None:
    judge.replies(
        [
            ("-2, 1", r"\(\boxed{1}\) and \(\boxed{-2}\)"),
            ("-3, 5", r"$$\boxed{-3} \quad \text{and} \quad \boxed{5}$$"),
            ("4, 9", "$\\boxed{4}$, $\\boxed{9}$\n\n$\\boxed{4, 9}$"),
        ],
        "right",
    )


def test_a_correction_or_a_conclusion_leaves_the_later_box(judge: Judge) -> None:
    corrected = "So $\\boxed{4}$. No, that counts one twice.\n\nTherefore it is $\\boxed{9}$."
    judge.replies([("9", corrected)], "right")
    judge.replies([("4", corrected)], "wrong")


def test_the_same_answer_twice_is_one(judge: Judge) -> None:
    replies = ["$$\\boxed{1/2}$$\n$$\\boxed{1/2}$$", r"$\boxed{\frac12}$, or $\boxed{0.5}$", "#### 1/2\n#### 0.5"]
    judge.replies([(reference, reply) for reply in replies for reference in (r"\frac{1}{2}", "0.5")], "right")
    judge.replies([("2", reply) for reply in replies], "wrong")


def test_what_directly_surrounds_a_box_belongs_to_the_answer(judge: Judge) -> None:
    judge.replies(
        [
            ("-48", r"so $c = -\boxed{48}$."),
            (r"25\%", r"$\boxed{25}$%"),
            ("0.25", r"$\boxed{25}\%$"),
            (r"5\text{ m}", r"$\boxed{5}$ meters"),
            ("5000000", r"$\boxed{5}$ million"),
            (r"2\sqrt{3}", r"$\boxed{2}\sqrt{3}$"),
            ("4", r"$3 + \boxed{4} = 7$"),
            ("5", r"- \boxed{5}"),
            ("5", r"There are $\boxed{5}$ in all."),
        ],
        "right",
    )
    judge.replies(
        [
            ("48", r"so $c = -\boxed{48}$."),
            ("0.25", r"$\boxed{0.25}\%$"),
            (r"5\text{ m}", r"$\boxed{5}$ cm"),
            ("5", r"$\boxed{5}$ million"),
            ("2", r"$\boxed{2}\sqrt{3}$"),
            ("7", r"$\pm\boxed{7}$"),
            ("16", r"$\sqrt{\boxed{16}}$"),
            ("3", r"$1/\boxed{3}$"),
            ("3", r"$2\cdot\boxed{3}$"),
        ],
        "wrong",
    )


def test_the_later_of_two_marks_decides(judge: Judge) -> None:
    both = "The interest is $\\boxed{250}$. Together that makes 7,250.\nFinal Answer: The final answer is $7,250$."
    judge.replies(
        [("7250", both), ("C", "It is \\boxed{8}.\n#### C"), ("8", "\\boxed{8}. The answer is correct.")], "right"
    )
    judge.replies([("250", both), ("8", "It is \\boxed{8}.\n#### C")], "wrong")


def test_thousands_in_every_habit(judge: Judge) -> None:
    for spelling in (r"32,\! 349", r"32\,349", "32{,}349", "32 349", "32'349", r"32\ 349", "32\u202f349", "32,349"):
        judge.same(("32349", spelling))
        judge.other(("32340", spelling), ("349", spelling))
    judge.same(("1234567", "1.234.567"), ("1234567", "12,34,567"), ("1234.56", "1.234,56"))
    judge.other(("32349", r"\{32, 349\}"), ("375", "0,375"), ("1234", "1.234"))


def test_values_of_names_have_the_order_in_which_they_were_written(judge: Judge) -> None:
    judge.same(("x = 2, a = 5", "(2, 5)"), ("x = 2, a = 5", "a = 5, x = 2"))
    judge.other(("x = 2, a = 5", "(5, 2)"), ("x = 2, a = 5", "x = 5, a = 2"))
    judge.other(("y = 2, x = 1", "(2, 1)"), ("y = 2, x = 1", "(1, 2)"))  # it could be either
    judge.same(("y = 2, x = 1", "(1, 2)"), question="Find the pair $(x, y)$.")


def test_a_tuple_of_names(judge: Judge) -> None:
    judge.same(("(p,q)=(3,2)", "(3,2)"), ("(p,q)=(3,2)", "q = 2, p = 3"), ("(x,y)=(1,2),(3,4)", "(3,4),(1,2)"))
    judge.other(("(p,q)=(3,2)", "(2,3)"), ("(p,q)=(3,2)", r"\{3,2\}"), ("(x,y)=(1,2),(3,4)", "(1,2)"))


def test_a_named_quantity_is_its_value(judge: Judge) -> None:
    for name in (
        "f(2)",
        "|z|",
        r"\angle A",
        "P(X>2)",
        r"\overline{AB}",
        r"S_{\triangle ABC}",
        "f^{-1}(5)",
        r"\text{Area}",
    ):
        judge.same((f"{name} = 7", "7"))
        judge.other((f"{name} = 7", "8"))
    judge.same(("V_1:V_2=11:21", "11:21"))
    judge.other(("V_1:V_2=11:21", "21:11"), ("f(2) = 7", "f(3) = 7"), ("|z| = 5", "z = 5"))
    judge.replies([("x^2 = 49", r"\boxed{49}"), ("|x-3| = 5", r"\boxed{5}"), ("y = 2x + 3", r"\boxed{3}")], "wrong")


def test_a_named_quantity_that_cannot_be_read_is_unverifiable(judge: Judge) -> None:
    judge.replies(
        [(r"\lim_{x\to 0} g(x) = 7", r"\boxed{7}"), (r"\angle A + \angle B = 7", r"\boxed{7}")], "unverifiable"
    )
    judge.replies([(r"\lim_{x\to 0} g(x) = 7", r"\boxed{8}")], "wrong")


def test_repeating_decimals(judge: Judge) -> None:
    for spelling in (
        r"0.\overline{36}",
        r"0.\dot{3}\dot{6}",
        "0.(36)",
        "0.3636...",
        r"0.3\overline{63}",
        r"0.\bar{36}",
    ):
        judge.same((r"\frac{4}{11}", spelling))
        judge.other((r"\frac{36}{100}", spelling), (r"\frac{11}{30}", spelling))
    judge.same((r"0.1\overline{6}", r"\frac16"), (r"0.1\overline{6}x", r"\frac{x}{6}"))
    judge.other((r"0.\overline{3}", "0.33"))


def test_currency_after_the_number_and_before_it(judge: Judge) -> None:
    judge.replies([("640", "The answer is 640$.")], "right")
    judge.same(*((r"25", spelling) for spelling in (r"25\$", "₹25", "25€", r"US\$25", r"\text{Rs. }25", "25 USD")))
    judge.other((r"25\$", "25€"), ("₹25", "£25"), (r"\$25", "25 cents"), (r"250", r"25\$"))


def test_an_exact_value_with_its_approximation(judge: Judge) -> None:
    judge.same((r"\frac13", r"\frac13 \approx 0.333"), (r"3\sqrt2", r"3\sqrt{2} \approx 4.24"), ("11", r"x \approx 11"))
    judge.other(("4", r"4 \approx 9"), ("9", r"4 \approx 9"), ("0.33", r"\frac13 \approx 0.333"))
    judge.other(
        (r"\sqrt3", r"\sqrt{2} \approx 1.732"), (r"\frac13", r"\approx 0.33"), (r"\frac{22}{7}", r"\pi \approx 3.14")
    )


def test_a_matrix_written_as_an_array(judge: Judge) -> None:
    matrix = r"\begin{pmatrix}1&2\\ 3&4\end{pmatrix}"
    for begin, end in (
        (r"\left[\begin{array}{cc}", r"\end{array}\right]"),
        (r"\left(\begin{array}{c|c}", r"\end{array}\right)"),
        (r"\left[\begin{matrix}", r"\end{matrix}\right]"),
        (r"\begin{bmatrix}", r"\end{bmatrix}"),
    ):
        judge.same((matrix, begin + r"1&2\\3&4" + end))
        judge.other((matrix, begin + r"1&2\\3&5" + end), (matrix, begin + r"1&3\\2&4" + end))


def test_a_system_as_cases(judge: Judge) -> None:
    judge.same(("x = 1, y = 2", r"\begin{cases} x = 1 \\ y = 2 \end{cases}"))
    judge.other(("x = 1, y = 2", r"\begin{cases} x = 2 \\ y = 1 \end{cases}"))


def test_an_inequality_multiplied_by_minus_one(judge: Judge) -> None:
    judge.same(("x<4", "-x>-4"), (r"x\le 4", r"-x\ge -4"), ("-2<x<3", "-3<-x<2"), (r"(-\infty,4)", "-x>-4"))
    judge.other(("x<4", "-x<-4"), ("x<4", "-x>4"), ("x<4", r"-x\ge -4"), ("-2<x<3", "-2<-x<3"))


@pytest.mark.parametrize(
    "reply",
    [
        "<answer>73</answer>", "Work.\n\n### Final Answer\n73", "####: 73", "40 + 33 = **73**", "Answer:\n\n73",
        "Work.\n**Final Answer:** 73 ✅", "Hence the final answer should be **73**.", "The answer is:\n$$73$$",
        "Final answer:\n\n- 73", "Work.\n\nThe answer to the question is 73.", "The final result is 73.",
    ],
)  # fmt: skip
def test_answer_tags_and_headings(judge: Judge, reply: str) -> None:
    judge.replies([("73", reply)], "right")
    judge.replies([("37", reply), ("-73", reply)], "wrong")


def test_the_last_number_of_a_reply_of_one_line(judge: Judge) -> None:
    right = [
        ("41", "Tom had 30 marbles and won 11, so now he has 41 marbles."),
        ("52", "Final Answer: The area of the field is 52."),
        ("77", "Then 99 - 22 leaves 77!"),
        ("4 apples", "4 apples"),
    ]
    judge.replies(right, "right", last_number=True)
    wrong = [
        ("41", "He has 41 or 42 marbles."),
        ("42", "He has 41 or 42 marbles."),
        ("30", right[0][1]),
        ("-41", right[0][1]),
    ]
    judge.replies(wrong, "wrong", last_number=True)


def test_full_width_digits_and_signs(judge: Judge) -> None:
    judge.same(
        ("37", "３７"),
        ("-6", "－6"),
        ("(3,4)", "（3，4）"),
        ("2:5", "2：5"),
        (r"28\%", "28％"),
        ("12345", "１２，３４５"),
    )
    judge.other(("37", "３８"), ("6", "－6"), ("(4,3)", "（3，4）"), ("34", "3，4"))


@pytest.mark.parametrize(
    "reply",
    ["答案：37", "所以答案是 $37$。", "故答案为：37", "故填37", "答：他有37元。", "【答案】37", r"共 $\boxed{37}$ 元"],
)
def test_chinese_marks(judge: Judge, reply: str) -> None:
    judge.replies([("37", "解：3+34。\n" + reply)], "right")
    judge.replies([("73", "解：3+34。\n" + reply), ("3", "解：3+34。\n" + reply)], "wrong")


def test_chinese_choices_units_and_words(judge: Judge) -> None:
    judge.replies([("C", "故选：C"), ("C", "故选（C）。"), ("C", "正确答案是 C。"), ("BC", "故选：B、C")], "right")
    judge.replies([("C", "故选：B或C"), ("B", "故选：B或C"), ("B", "故选：C"), ("C", "故选BC")], "wrong")
    judge.same(
        ("4, 7", "4、7"),
        ("4, 7", "4或7"),
        ("5 km", "5千米"),
        ("30000", "3万"),
        ("¥5", "5元"),
        ("无解", r"\text{no solution}"),
    )
    judge.other(("4", "4或7"), ("47", "4、7"), ("5 km", "5厘米"), ("3", "3万"), ("5元", "5美元"), ("正确", "错误"))


def test_other_notation_of_logarithms_and_combinations(judge: Judge) -> None:
    judge.same(
        (r"\log_{10} 7", r"\lg 7"), (r"\binom{n}{2}", "C_n^2"), ("10", "C_5^2"), ("20", "A_5^2"), (r"\tan 2", r"\tg 2")
    )
    judge.other((r"\log_{10} 7", r"\lg 8"), ("20", "C_5^2"), (r"\binom{n}{2}", r"\frac{n(n+1)}{2}"), ("1", "C_1^2"))


def test_marks_that_only_set_type(judge: Judge) -> None:
    for text in (
        r"\color{red}{%s}", r"\textcolor{blue}{%s}", r"\large %s", "{%s}", r"%s\ ", r"{\bf %s}", r"\underline{%s}",
        r"\bm{%s}", r"\hspace{1cm}%s", r"\colorbox{red}{%s}", r"\left. %s \right.", "**%s**",
    ):  # fmt: skip
        judge.replies([(value, box(text % value)) for value in ("13", r"\sqrt{2}")], "right")
        judge.replies([("13", box(text % "31")), (r"\sqrt{2}", box(text % r"\sqrt{3}"))], "wrong")
    judge.other(("13", r"\overline{13}"), ("13", "1^3"))


def box(content: str) -> str:
    return rf"So $\boxed{{{content}}}$."


def test_a_repeated_element_of_a_set(judge: Judge) -> None:
    judge.same((r"\{1,2\}", r"\{1,2,2\}"), (r"\{0.5\}", r"\{\frac12,0.5\}"), (r"\{1,\sqrt2\}", r"\{\sqrt2,1,\sqrt2\}"))
    judge.other((r"\{1,2\}", r"\{1,1\}"), (r"\{1,2\}", r"\{1,2,3\}"), ("1,2", "1,2,2"), ("(1,2)", "(1,2,2)"))


def test_a_decimal_comma(judge: Judge) -> None:
    judge.same(("0.375", "0,375"), ("3.5", "3{,}5"))
    judge.replies([("0, 375", r"\boxed{0,375}")], "right")
    judge.other(("0.375", "0,376"), ("3", "3,5"), ("5", "3,5"), ("0.375", "0, 375"))


def test_an_article_before_words(judge: Judge) -> None:
    judge.same((r"\text{small car}", r"\text{a small car}"), (r"\text{red ball}", r"\text{the red ball}"))
    judge.other((r"\text{small car}", r"\text{a small truck}"), (r"\text{small car}", r"\text{not a small car}"))


def test_powers_of_ten_without_a_space(judge: Judge) -> None:
    for spelling in (r"2\times10^6", r"2\cdot10^{6}", "2×10⁶", "2e6", r"2\times{10}^6"):
        judge.same(("2000000", spelling))
        judge.other(("200000", spelling), ("12", spelling))
    judge.same((r"300000000 \text{ m/s}", r"3\times10^8\text{ m/s}"))
    judge.replies([("18", r"\boxed{9\times2}")], "wrong")


def test_a_base_in_brackets_or_as_a_word(judge: Judge) -> None:
    for spelling in (
        "52_{(8)}",
        "(52)_8",
        r"52_{\text{eight}}",
        "52₈",
        "52 (base 8)",
        r"52_{\text{base } 8}",
        "{52}_{8}",
    ):
        judge.same(("52_8", spelling))
        judge.other(("53_8", spelling), ("52_9", spelling), ("42", spelling))


def test_unicode_superscripts_fractions_and_roots(judge: Judge) -> None:
    judge.same(
        ("1024", "2¹⁰"), ("0.001", "10⁻³"), ("x^{-1}", "x⁻¹"), ("2^{n}", "2ⁿ"), ("0.125", "⅛"), ("5 m/s", "5 m·s⁻¹")
    )
    judge.same(("1.5", "1½"), (r"2\sqrt{x+1}", "2√(x+1)"), (r"\sqrt[3]{2}", "∛2"), (r"\frac{\pi}{2}", "π/2"))
    judge.other(("210", "2¹⁰"), ("1000", "10⁻³"), ("2n", "2ⁿ"), ("8", "⅛"), ("0.5", "1½"), ("5 m/s", "5 m·s"))


def test_a_number_with_a_unit_is_no_percentage(judge: Judge) -> None:
    for unit in (r"\text{ apples}", r"\text{ cm}", r"^\circ", r"\text{ dollars}"):
        judge.other((r"28\%", "28" + unit))
    judge.same((r"28\%", r"28\text{ percent}"), (r"28\%", "0.28"))


def test_roots_and_logarithms_of_letters(judge: Judge) -> None:
    judge.same((r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}"), (r"\sqrt{2gh}", r"\sqrt{2g}\sqrt{h}"), (r"2\ln x", r"\ln x^2"))
    judge.other(
        (r"\sqrt{x^2}", "x"), (r"\sqrt{a+b}", r"\sqrt a+\sqrt b"), (r"\ln|x|", r"\ln x"), (r"\sqrt{x^2y}", r"x\sqrt y")
    )
    judge.same((r"\sqrt{x^2y}", r"x\sqrt y"), question="Let x, y > 0. Simplify the root.")


def test_factorials_that_cancel(judge: Judge) -> None:
    judge.same(("n+1", r"\frac{(n+1)!}{n!}"), (r"\frac{1}{(n+1)!}", r"\frac{1}{(n+1) n!}"), (r"n\cdot n!", "(n+1)!-n!"))
    judge.other(("n", r"\frac{(n+1)!}{n!}"), ("n!", "(n+1)!"), (r"\binom{n}{2}", r"\binom{n}{3}"))


def test_an_equation_solved_for_a_letter(judge: Judge) -> None:
    judge.same(("xy=6", r"y=\frac6x"), ("F=ma", r"a=\frac Fm"), ("2x+y=5", "y=5-2x"))
    judge.other(("xy=6", "y=6x"), ("xy=6x", "y=6"), ("x^2y=x", "xy=1"), ("x^2=4", "x=2"))


def test_sets_without_a_point(judge: Judge) -> None:
    for spelling in (
        r"x\ne 2",
        r"\mathbb{R}\setminus\{2\}",
        r"\{x : x\ne 2\}",
        r"\text{all real numbers except }2",
        r"x\not=2",
    ):
        judge.same((r"(-\infty,2)\cup(2,\infty)", spelling))
        judge.other((r"(-\infty,3)\cup(3,\infty)", spelling), (r"\mathbb{R}", spelling), ("2", spelling))
    judge.same((r"[2,\infty)", r"\{x \in \mathbb{R} : x \geq 2\}"))
    judge.other((r"(2,\infty)", r"\{x \in \mathbb{R} : x \geq 2\}"))


def test_several_letters_of_a_choice(judge: Judge) -> None:
    judge.same(("ABD", "A,B,D"), ("ABD", "D, B, A"), ("AC", r"A \text{ and } C"))
    judge.other(("ABD", "A,B"), ("ABD", "A,B,C"), ("A", "A,B"), ("AC", "A,A"))
    judge.replies([("B", "The answer is (B) 12 or (C) 13."), ("B", "Answer: B. 12 or C. 13")], "wrong")
