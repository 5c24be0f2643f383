"""Verifier for problems of reasoning-gym, which uses the package's own scorers. A score of 1 counts as right.

The hidden test of a problem is a JSON object with data set, settings, seed, size and index, from which the entry is
regenerated. Scorers that would run a model's answer as code are not supported; `unsafe_scorer` detects them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from functools import cache
from importlib import import_module
from typing import Any

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify.answers.extract import final_answer
from thinkling.verify.verdict import Outcome, Verdict

_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_RUNS_CODE = frozenset({"eval", "exec", "compile", "parse_expr", "sympify", "system", "Popen", "run", "__import__"})


def verify(problem: Problem, reading: Reading) -> Verdict:
    """Judge the text between `<answer>` tags. Without tags, judge the box or the text after "answer is". Without any
    mark, judge the whole answer."""
    if not problem.hidden_tests:
        return Verdict(Outcome.UNVERIFIABLE, "reference", "the problem is not one of reasoning-gym")
    answers = _answers(reading)
    if not answers:
        return Verdict(Outcome.WRONG, "extract", "no readable answer")
    if len(answers) > 1:
        return Verdict(Outcome.WRONG, "several", " | ".join(sorted(answers)))
    made = json.loads(problem.hidden_tests[0])
    data = dataset(made["dataset"], json.dumps(made["settings"], sort_keys=True), made["seed"], made["size"])
    (answer,) = answers
    try:
        score = data.score_answer(answer, data[made["number"]])
    except Exception as error:  # scorers may raise anything on answers that they cannot parse, which are wrong
        return Verdict(Outcome.WRONG, "extract", f"{answer}: {type(error).__name__}")
    return Verdict(Outcome.RIGHT if score >= 1 else Outcome.WRONG, "reasoning-gym", f"{answer}: {score:.3g}")


def _answers(reading: Reading) -> set[str]:
    text = reading.answer or ""
    tagged = {match.strip() for match in _TAG.findall(text)}
    if tagged:
        return tagged - {""}
    marked = final_answer(text)
    return {marked or text.strip()} - {""}


@cache
def dataset(name: str, settings: str, seed: int, size: int) -> Any:
    """Create a reasoning-gym data set. `settings`: the data set's settings as JSON text.

    Raises a one-line UserError if the package is not installed, the data set does not exist, its settings are invalid,
    or its scorer is unsafe.
    """
    try:
        factory = import_module("reasoning_gym.factory")
    except ImportError as error:
        raise UserError("reasoning-gym is not installed; run pip install 'thinkling[tasks]'") from error
    if name not in factory.DATASETS:
        raise UserError(f"reasoning-gym has no data set {name!r}; use one of {', '.join(sorted(factory.DATASETS))}")
    if (how := unsafe_scorer(factory.DATASETS[name][0])) is not None:
        raise UserError(
            f"data set {name!r} of reasoning-gym scores answers with {how}, which can run model output as code outside "
            "the sandbox; use a different data set"
        )
    try:
        return factory.create_dataset(name, seed=seed, size=size, **json.loads(settings))
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error).replace(".__init__()", "") or type(error).__name__
        raise UserError(f"data set {name!r} of reasoning-gym: {reason}") from error


def unsafe_scorer(kind: type) -> str | None:
    """Return the name of the function with which a data set's scorer would run text as code, directly or through other
    functions of reasoning-gym; None if there is no such call."""
    queue: list[Any] = [kind.score_answer]  # type: ignore[attr-defined]
    seen: set[Any] = set()
    while queue:
        function = queue.pop()
        if function in seen:
            continue
        seen.add(function)
        for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if not isinstance(call, ast.Call):
                continue
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            inherited = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "super()"
            if name in _RUNS_CODE or (name == "score_answer" and not inherited):
                return name  # the scorer of a different data set cannot be checked here
            scope = getattr(function, "__globals__", {})
            found = inspect.getattr_static(kind, name, None) or scope.get(name)
            found = getattr(found, "__func__", found)
            if inspect.isfunction(found) and found.__module__.startswith("reasoning_gym"):
                queue.append(found)
    return None
