"""Twelve shapes of conversation, in the OpenAI format."""

from __future__ import annotations

from typing import Any, NamedTuple


class Shape(NamedTuple):
    """A conversation and the tools announced in it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []  # noqa: RUF012 (never mutated)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(content: str, reasoning: str | None = None, calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        found["reasoning_content"] = reasoning
    if calls is not None:
        found["tool_calls"] = calls
    return found


def call(number: int, expression: str) -> dict[str, Any]:
    function = {"name": "calculator", "arguments": {"expression": expression, "digits": 3}}
    return {"id": f"call{number:05d}", "type": "function", "function": function}


def answered(number: int, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call{number:05d}", "name": "calculator", "content": content}


TOOL = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Value of an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "What to compute."},
                "digits": {"type": "integer", "description": "Digits after the point."},
            },
            "required": ["expression"],
        },
    },
}
QUESTION, SECOND = user("How much is seven times six?"), user("And eight times six?")
SHAPES: dict[str, Shape] = {
    "one round": Shape([QUESTION, said("It is 42.")]),
    "two rounds": Shape([QUESTION, said("It is 42."), SECOND, said("That makes 48.")]),
    "system": Shape([{"role": "system", "content": "You answer briefly."}, QUESTION, said("It is 42.")]),
    "reasoning": Shape([QUESTION, said("It is 42.", "Seven sixes are forty-two.")]),
    "reasoning in two rounds": Shape(
        [QUESTION, said("It is 42.", "Seven sixes: 42."), SECOND, said("That makes 48.", "Six more than before.")]
    ),
    "tool round": Shape([QUESTION, said("", calls=[call(0, "7*6")]), answered(0, "42"), said("It is 42.")], [TOOL]),
    "parallel calls": Shape(
        [
            user("How much are seven and eight times six?"),
            said("", calls=[call(0, "7*6"), call(1, "8*6")]),
            answered(0, "42"),
            answered(1, "48"),
            said("They are 42 and 48."),
        ],
        [TOOL],
    ),
    "tools announced": Shape([QUESTION, said("It is 42.")], [TOOL]),
    "tool round with reasoning": Shape(
        [
            QUESTION,
            said("", "I had better compute it.", [call(0, "7*6")]),
            answered(0, "42"),
            said("It is 42.", "The tool agrees with me."),
        ],
        [TOOL],
    ),
    "ends in a call": Shape([QUESTION, said("", calls=[call(0, "7*6")])], [TOOL]),
    "empty content": Shape([QUESTION, said(""), SECOND, said("That makes 48.")]),
    "unicode and newlines": Shape(
        [
            user("  Größe 大きさ?\n\n* a\n* b  "),
            said("Ja — «42»\n\n```py\nx = {'a': \"b\"}\n```\n🙂"),
            user("Ω\t?"),
            said("ω"),
        ]
    ),
}
