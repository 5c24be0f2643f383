"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168).

A record has `question` and `answer`; the latter is a worked solution that ends in, for example, `#### 72`. The
solutions are annotated with calculations, as in `48/2 = <<48/2=24>>24 clips`. The annotations are either removed or
converted to calculator calls.
"""

from __future__ import annotations

import re
from fractions import Fraction

from thinkling.sources.presets.base import BOXED_ANSWER, BOXED_TEMPLATE, BadRecord, Found, Item, Preset, Step

_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")


def read(found: Found, seed: int) -> Item:
    worked, mark, answer = found.text("answer").rpartition("####")
    if not mark or not answer.strip():
        raise BadRecord("no final answer after ####")
    solution = _ANNOTATION.sub("", worked).strip()
    return Item(
        found.text("question"),
        answer.strip(),
        solution,
        steps(worked),
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
    )


def steps(worked: str) -> tuple[Step, ...]:
    """Returns the solution split at its annotations.

    An annotation stays text if it only repeats a number, if the calculator cannot compute it, or if its result is not
    exact (`<<10/3=3.33>>`). Each call in a training conversation therefore has the result that the tool would return.
    """
    cut: list[Step] = []
    text, at = "", 0
    for match in _ANNOTATION.finditer(worked):
        text += worked[at : match.start()]
        at = match.end()
        expression, _, written = match[1].rpartition("=")
        if (result := _value(expression.strip(), written.strip())) is not None:
            cut.append(Step(text.strip(), expression.strip(), result))
            text = ""
    cut.append(Step((text + worked[at:]).strip()))
    return tuple(cut)


def _value(expression: str, written: str) -> str | None:
    from thinkling.generate.calculator import CalculatorError, evaluate, write_number

    try:
        value, claimed = evaluate(expression), evaluate(written)
    except CalculatorError:
        return None
    trivial = re.fullmatch(r"[\d.]*", expression) is not None
    return write_number(value) if Fraction(value) == Fraction(claimed) and not trivial else None


GSM8K = Preset(
    keys={"question": ("question",), "answer": ("answer",), "family": (), "id": ()},
    read=read,
    verifier="maths",
    template=BOXED_TEMPLATE,
    answer_template=BOXED_ANSWER,
    calculator_calls=True,
)
