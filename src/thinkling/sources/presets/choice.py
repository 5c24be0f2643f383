"""Multiple-choice problems, which are answered by a letter.

Supported formats: a list of options with a letter, index or option text as the answer (MMLU, MMLU-Pro, ARC); columns A
to D; and GPQA's correct and incorrect answers, which are shuffled.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from typing import Any

from thinkling.seeds import derive
from thinkling.sources.presets.base import BOXED_ANSWER, BadRecord, Found, Item, Preset, checked_text

LETTERS = string.ascii_uppercase
TEMPLATE = "{question}\n\nAnswer with the letter of the right option in \\boxed{}."


def read(found: Found, seed: int) -> Item:
    choices, labels = _choices(found)
    index = _index(found, choices, labels)
    return item(found, choices, index)


def read_gpqa(found: Found, seed: int) -> Item:
    right = found.text("answer")
    wrong = [found.text(f"wrong_{number}") for number in (1, 2, 3)]
    choices = [right, *wrong]
    if len(set(choices)) < len(choices):
        raise BadRecord("an option is given twice")
    random.Random(derive(seed, "options", found.text("question"), *sorted(choices))).shuffle(choices)
    return item(found, choices, choices.index(right))


def item(found: Found, choices: Sequence[str], index: int) -> Item:
    """Returns the problem with its options listed below the question.

    Two problems that differ only in the order of their options count as duplicates.
    """
    question = found.text("question")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return Item(
        f"{question}\n\n{listed}",
        LETTERS[index],
        found.text_or_empty("solution"),
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        choices=tuple(choices),
        identity="\n".join([question, *sorted(choices)]),
    )


def _choices(found: Found) -> tuple[list[str], list[str]]:
    """Returns the options and their labels in the record."""
    given: Any = found.json("choices")
    labels: list[str] = []
    if isinstance(given, Mapping):
        texts, named = given.get("text"), given.get("label")
        if isinstance(texts, Sequence) and isinstance(named, Sequence) and len(texts) == len(named):
            given, labels = list(texts), [str(label) for label in named]
        else:
            given, labels = list(given.values()), [str(label) for label in given]
    if given is None:
        columns = [found.record.get(letter) for letter in LETTERS[:10]]
        given = columns[: columns.index(None)] if None in columns else columns
    if not isinstance(given, Sequence) or isinstance(given, str) or not 2 <= len(given) <= len(LETTERS):
        raise BadRecord("no options")
    if not all(isinstance(choice, str | int | float) and not isinstance(choice, bool) for choice in given):
        raise BadRecord("an option is not text")
    choices = [checked_text(str(choice), "an option").strip() for choice in given]
    if len(set(choices)) < len(choices):
        raise BadRecord("an option is given twice")
    return choices, labels


def _index(found: Found, choices: list[str], labels: list[str]) -> int:
    """Returns the index of the correct option.

    The record specifies the correct option by `answer_index`, or by an answer that is an index, a label, a letter or
    the text of an option.
    """
    index = found.get("answer_index")
    if index is None:
        answer = found.get("answer")
        if isinstance(answer, int) and not isinstance(answer, bool):
            index = answer
        else:
            index = _named(found.text("answer"), choices, labels)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(choices):
        raise BadRecord("the answer is none of the options")
    return index


def _named(answer: str, choices: list[str], labels: list[str]) -> int | None:
    if answer in labels:
        return labels.index(answer)
    letter = answer.strip("().").upper()
    by_letter = LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(choices)] else None
    by_text = choices.index(answer) if answer in choices else None
    if by_letter is not None and by_text is not None and by_letter != by_text:
        raise BadRecord("the answer is one option's letter and another's text")
    return by_letter if by_letter is not None else by_text


CHOICE = Preset(
    keys={
        "question": ("question", "Question", "query"),
        "choices": ("choices", "options"),
        "answer": ("answer", "answerKey", "Answer", "label"),
        "answer_index": ("answer_index",),
        "solution": ("cot_content", "solution", "explanation"),
        "family": (),
        "id": (),
    },
    read=read,
    verifier="choice",
    template=TEMPLATE,
    answer_template=BOXED_ANSWER,
)

GPQA = Preset(
    keys={
        "question": ("Question",),
        "answer": ("Correct Answer",),
        "wrong_1": ("Incorrect Answer 1",),
        "wrong_2": ("Incorrect Answer 2",),
        "wrong_3": ("Incorrect Answer 3",),
        "solution": ("Explanation",),
        "family": (),
        "id": (),
    },
    read=read_gpqa,
    verifier="choice",
    template=TEMPLATE,
    answer_template=BOXED_ANSWER,
)
