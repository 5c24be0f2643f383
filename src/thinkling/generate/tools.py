"""Tools a model may call, and the Hermes spelling of call and response that documents share with the chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.generate.calculator import CalculatorError, evaluate, write_number


@dataclass(frozen=True)
class Tool:
    """A function the model can call: `schema` is the JSON schema of its arguments, `run` answers in text.

    `run` never raises on what a model wrote: a bad argument is answered with a line starting `error:`.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str]

    def listing(self) -> dict[str, Any]:
        """The entry of a chat template's `tools` list."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}


def _calculate(arguments: Mapping[str, Any]) -> str:
    expression = arguments.get("expression")
    if not isinstance(expression, str) or len(arguments) != 1:
        return "error: calculator takes one argument, expression, a string"
    try:
        return write_number(evaluate(expression))
    except CalculatorError as error:
        return f"error: {error}"


TOOLS: dict[str, Tool] = {
    "calculator": Tool(
        name="calculator",
        description="Exact value of an arithmetic expression with + - * / and brackets.",
        schema={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
        run=_calculate,
    )
}


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """`<tool_call>` block in Hermes form, without a newline after it."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def response_text(result: str) -> str:
    """`<tool_response>` block, without a newline after it."""
    return f"<tool_response>\n{result}\n</tool_response>"


def read_call(body: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the text between `<tool_call>` and `</tool_call>`; None where it is not a call."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return None
    name, arguments = call["name"], call["arguments"]
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def answer_call(body: str) -> str:
    """What the tool named in a `<tool_call>` body says; a malformed call or unknown tool is answered with an error."""
    call = read_call(body)
    if call is None:
        return "error: malformed tool call"
    name, arguments = call
    return TOOLS[name].run(arguments) if name in TOOLS else "error: unknown tool"
