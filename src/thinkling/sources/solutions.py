"""Builds training conversations from problems with known solutions."""

from __future__ import annotations

from typing import Any

from thinkling.data.conversations import Conversation, asking, tool_call
from thinkling.generate.tools import listings
from thinkling.sources import templates
from thinkling.sources.problem_set import Entry


def conversation(source: str, entry: Entry, answer_template: str, calculator_calls: bool) -> Conversation:
    """Returns a conversation with the problem's prompt, the solution as reasoning, and the answer.

    The prompt is the same as in all other stages. With `calculator_calls`, the assistant calls the calculator at each
    annotation in the solution.
    """
    problem = entry.problem
    messages = asking(problem.question, problem.system)
    reasoning = problem.reasoning
    if calculator_calls:
        *calling, last = entry.steps
        for step in calling:
            arguments = {"expression": step.expression}
            messages.append(_assistant("", step.reasoning, [tool_call("calculator", arguments)]))
            messages.append({"role": "tool", "name": "calculator", "content": step.result})
        reasoning = last.reasoning
    messages.append(_assistant(templates.fill(answer_template, {"answer": problem.answer}), reasoning))
    tools = tuple(listings(problem.tools)) if problem.announce_tools else ()
    return Conversation(problem.id, messages, f"{source}/{problem.family}", problem.id, tools)


def _assistant(content: str, reasoning: str, calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    return {**message, "tool_calls": calls} if calls else message
