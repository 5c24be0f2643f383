"""MATH (Hendrycks et al. 2021, arXiv 2103.03874) and similar sets.

A record has `problem`, and at least one of `answer` and a `solution` with a `\\boxed` answer.
"""

from __future__ import annotations

from thinkling.sources.presets.base import BOXED_ANSWER, BOXED_TEMPLATE, BadRecord, Found, Item, Preset


def read(found: Found, seed: int) -> Item:
    from thinkling.verify.answers.extract import final_answer

    solution = found.text_or_empty("solution")
    answer = found.text_or_empty("answer")
    if not answer and "\\boxed" in solution:
        answer = final_answer(solution) or ""
    if not answer:
        raise BadRecord("no answer, and no \\boxed one in the solution")
    return Item(
        found.text("question"),
        answer,
        solution,
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
    )


KEYS = {
    "question": ("problem", "question", "Problem", "Question"),
    "solution": ("solution", "Solution"),
    "answer": ("answer", "Answer", "expected_answer"),
    "family": (),
    "id": (),
}

MATH = Preset(KEYS, read, verifier="maths", template=BOXED_TEMPLATE, answer_template=BOXED_ANSWER)
