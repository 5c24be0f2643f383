"""Problems solved by a program, in the formats of APPS (arXiv 2105.09938) and LiveCodeBench (arXiv 2403.07974).

A program reads standard input and writes standard output. A test is a JSON text with the keys `input` and `output`. If
it also has the key `function`, the function with this name is called with the values of the input instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thinkling.sources.presets.base import CODE_ANSWER, BadRecord, Found, Item, Preset

_PROGRAM = "Reply with a Python program that reads standard input and writes standard output, in a code block."
_FUNCTION = "Reply with Python code in a code block that completes this:"


def _item(found: Found, function: str, answer: str, tests: list[Any], hidden: list[Any]) -> Item:
    question, starter = found.text("question"), found.text_or_empty("starter_code")
    if function and not starter:
        instruction = f"Reply with a Python function named {function}, in a code block."
    else:
        instruction = f"{_FUNCTION}\n```python\n{starter}\n```" if starter else _PROGRAM
    return Item(
        f"{question}\n\n{instruction}",
        answer,
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        tests=tuple(_test(test, function) for test in tests),
        hidden_tests=tuple(_test(test, function) for test in hidden),
        bare=question,
    )


def _test(test: Any, function: str) -> str:
    if not isinstance(test, Mapping) or not {"input", "output"} <= set(test):
        raise BadRecord("a test has no input and output")
    named = {"function": function} if function else {}
    return json.dumps({"input": test["input"], "output": test["output"], **named}, ensure_ascii=False)


def read_apps(found: Found, seed: int) -> Item:
    tests = found.json("input_output")
    if not isinstance(tests, Mapping):
        raise BadRecord("no input_output")
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        raise BadRecord("input_output has no inputs with as many outputs")
    solutions = found.json("solutions")
    code = next((s for s in solutions if isinstance(s, str)), "") if isinstance(solutions, list) else ""
    pairs = [{"input": given, "output": wanted} for given, wanted in zip(inputs, outputs, strict=True)]
    function = tests.get("fn_name")
    return _item(found, function if isinstance(function, str) else "", code.strip(), [], pairs)


def read_livecodebench(found: Found, seed: int) -> Item:
    public = _cases(found, "public_test_cases")
    if isinstance(raw := found.get("private_test_cases"), str) and raw.strip() and raw.strip()[0] not in "[{":
        raise BadRecord("private_test_cases is a compressed pickle, which is not read: a pickle can run code")
    hidden = _cases(found, "private_test_cases")
    if not public and not hidden:
        raise BadRecord("no tests")
    metadata = found.json("metadata")
    function = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    return _item(found, function if isinstance(function, str) else "", "", public, hidden)


def _cases(found: Found, meaning: str) -> list[Any]:
    cases = found.json(meaning)
    if cases is not None and not isinstance(cases, list):
        raise BadRecord(f"{meaning} is not a list")
    return cases or []


APPS = Preset(
    keys={
        "question": ("question",),
        "input_output": ("input_output",),
        "solutions": ("solutions",),
        "starter_code": ("starter_code",),
        "family": (),
        "id": (),
    },
    read=read_apps,
    verifier="stdin-stdout",
    answer_template=CODE_ANSWER,
    answer_is_solution=True,
)

LIVECODEBENCH = Preset(
    keys={
        "question": ("question_content",),
        "public_test_cases": ("public_test_cases",),
        "private_test_cases": ("private_test_cases",),
        "starter_code": ("starter_code",),
        "metadata": ("metadata",),
        "family": (),
        "id": (),
    },
    read=read_livecodebench,
    verifier="stdin-stdout",
    answer_template=CODE_ANSWER,
    answer_is_solution=True,
)
