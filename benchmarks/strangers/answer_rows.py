"""Rows of answers.jsonl; the texts of real rows are read from $THINKLING_DATA."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem

TABLE = Path(__file__).with_name("answers.jsonl")
GSM8K = "gsm8k/example_model_solutions.jsonl"
MATH = "math/train_answers.json"


def _bumped(gold: str) -> str:
    """The text with its last digit increased by one, 9 to 0."""
    return re.sub(r"\d(?=\D*$)", lambda match: str((int(match[0]) + 1) % 10), gold)


def _is_number(gold: str) -> bool:
    return re.fullmatch(r"-?\d{1,4}", gold) is not None


def _is_fraction(gold: str) -> bool:
    return re.fullmatch(r"-?\\frac\{\d+\}\{\d+\}", gold) is not None


def _is_grouped(gold: str) -> bool:
    return re.fullmatch(r"\d{1,3}(,(\\!)?\d{3})+", gold) is not None


def _is_matrix(gold: str) -> bool:
    return gold.startswith(r"\begin{pmatrix}") and gold.count("begin") == 1 and gold.endswith(r"\end{pmatrix}")


def _is_tuple(gold: str) -> bool:
    return re.fullmatch(r"\(-?\d+, ?-?\d+\)", gold) is not None


def _is_percent(gold: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)? ?\\%", gold) is not None


def _is_root(gold: str) -> bool:
    return re.fullmatch(r"\d*\\sqrt\{\d+\}", gold) is not None


def _any(gold: str) -> bool:
    return (
        len(gold) < 60
        and re.search(r"\d", gold) is not None
        and re.search(r"text|[A-Za-z]{4}\(|\\begin|\+|\\%", gold) is None
    )


def _bare(gold: str) -> str:
    return gold.replace(r"\%", "").strip()


def _regrouped(gold: str, mark: str) -> str:
    return gold.replace(r",\!", ",").replace(",", mark)


def _array(gold: str) -> str:
    columns = "c" * (gold.split(r"\\")[0].count("&") + 1)
    body = gold.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
    return rf"\left[\begin{{array}}{{{columns}}}{body}\end{{array}}\right]"


def _upside_down(gold: str) -> str | None:
    over, under = re.findall(r"\d+", gold)
    return None if over == under else gold.replace(f"{{{over}}}{{{under}}}", f"{{{under}}}{{{over}}}")


def _slash(gold: str) -> str:
    return re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", gold)


def _root_lost(gold: str) -> str:
    return re.sub(r"\\sqrt\{(\d+)\}", r"\\cdot \1", gold).removeprefix(r"\cdot ")


def _boxed(gold: str | None) -> str | None:
    return None if gold is None else rf"\boxed{{{gold}}}"


def _swapped(gold: str) -> str | None:
    one, other = (part.strip() for part in gold.strip("()").split(","))
    return None if one == other else f"({other}, {one})"


EDITS: dict[str, tuple[Callable[[str], str | None], str, Callable[[str], bool]]] = {
    "as it is": (lambda gold: rf"\boxed{{{gold}}}", "right", _any),
    "display": (lambda gold: rf"Hence \[\boxed{{{gold}}}.\]", "right", _any),
    "twice": (lambda gold: f"$\\boxed{{{gold}}}$\n\n$\\boxed{{{gold}}}$", "right", _any),
    "two boxes": (lambda gold: rf"$\boxed{{{_bumped(gold)}}}$ or $\boxed{{{gold}}}$", "wrong", _is_number),
    "last digit": (lambda gold: rf"\boxed{{{_bumped(gold)}}}", "wrong", _any),
    "sign": (lambda gold: rf"$-\boxed{{{gold}}}$", "wrong", lambda gold: _is_number(gold) and gold != "0"),
    "percent sign": (lambda gold: rf"$\boxed{{{_bare(gold)}}}\%$", "right", _is_percent),
    "no percent but cm": (lambda gold: rf"\boxed{{{_bare(gold)}\text{{ cm}}}}", "wrong", _is_percent),
    "no commas": (lambda gold: r"\boxed{" + re.sub(r"\D", "", gold) + "}", "right", _is_grouped),
    "comma and thin space": (lambda gold: r"\boxed{" + _regrouped(gold, ",\\! ") + "}", "right", _is_grouped),
    "last group as list": (lambda gold: r"\boxed{" + _regrouped(gold, ", ") + "}", "wrong", _is_grouped),
    "array": (lambda gold: rf"\boxed{{{_array(gold)}}}", "right", _is_matrix),
    "array, last digit": (lambda gold: rf"\boxed{{{_array(_bumped(gold))}}}", "wrong", _is_matrix),
    "swapped": (lambda gold: _boxed(_swapped(gold)), "wrong", _is_tuple),
    "names": (lambda gold: rf"\boxed{{(x,y) = {gold}}}", "right", _is_tuple),
    "fraction upside down": (lambda gold: _boxed(_upside_down(gold)), "wrong", _is_fraction),
    "slash": (lambda gold: _boxed(_slash(gold)), "right", _is_fraction),
    "root sign": (lambda gold: _boxed(re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold)), "right", _is_root),
    "root lost": (lambda gold: _boxed(_root_lost(gold)), "wrong", _is_root),
    "colour": (lambda gold: rf"\boxed{{\color{{red}}{{{gold}}}}}", "right", _any),
    "Chinese": (lambda gold: f"所以答案是 ${gold}$。", "right", _is_number),
    "Chinese, last digit": (lambda gold: f"所以答案是 ${_bumped(gold)}$。", "wrong", _is_number),
}
"""Edit → the reply made from a MATH answer, whether that reply is right, and which answers the edit applies to."""


@dataclass(frozen=True)
class Row:
    id: str
    kind: str
    verifier: str
    question: str
    reference: str
    reply: str
    expected: str
    real: bool

    @property
    def problem(self) -> Problem:
        return Problem(self.id, "answers", self.question, self.reference, "", self.verifier)

    @property
    def reading(self) -> Reading:
        return Reading.of(self.reply.rpartition("</think>")[2])


def read_rows(data: Path | None) -> list[Row]:
    """The table; without `data`, only its written half."""
    raw = [json.loads(line) for line in lines(TABLE)]
    rows = [_row(row, row["reference"], row["reply"], row.get("question", "")) for row in raw if "file" not in row]
    if data is None:
        return rows
    solutions = [json.loads(line) for line in lines(data / GSM8K)]
    golds = json.loads((data / MATH).read_text(encoding="utf-8"))
    for row in raw:
        if row.get("file") == GSM8K:
            entry = solutions[row["row"]]
            reference = entry["ground_truth"].rpartition("\nA:")[2].strip()
            texts = [entry[model]["solution"] for model in row["field"].split("+")]
            rows.append(_row(row, reference, _reply(row["form"], texts), entry["question"]))
        elif row.get("file") == MATH:
            gold = golds[row["row"]]["answer"]
            reply = shown(gold, row["edit"])
            assert reply is not None
            rows.append(_row(row, gold, reply, ""))
    return rows


def _row(row: dict[str, Any], reference: str, reply: str, question: str) -> Row:
    return Row(row["id"], row["kind"], row["verifier"], question, reference, reply, row["expected"], "file" in row)


def _reply(form: str, texts: list[str]) -> str:
    if form == "reply":
        return texts[0]
    if form == "line":
        return last_line(texts[0])
    one, other = (text.rpartition("A:")[2].strip() for text in texts)
    return rf"The answer is $\boxed{{{one}}}$ \quad \text{{or}} \quad $\boxed{{{other}}}$"


def last_line(solution: str) -> str:
    """The line before the line with the answer, without calculator annotations."""
    working = [line for line in solution.rpartition("A:")[0].split("\n") if line.strip()]
    return re.sub(r"<<[^<>]*>>", "", working[-1]).strip() if working else ""


def shown(gold: str, edit: str) -> str | None:
    return EDITS[edit][0](gold)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
