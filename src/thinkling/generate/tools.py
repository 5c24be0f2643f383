"""Tools that a model may call: built in, or entry points of the group `thinkling.tools`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.errors import UserError
from thinkling.generate.calculator import CalculatorError, evaluate, write_number
from thinkling.generate.hermes import read_call
from thinkling.plugins import Registry

GROUP = "thinkling.tools"


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


CALCULATOR = Tool(
    name="calculator",
    description="Exact value of an arithmetic expression with + - * / and brackets.",
    schema={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    run=_calculate,
)
TOOLS = Registry("tool", GROUP, {"calculator": "thinkling.generate.tools:CALCULATOR"})


def resolve(name: str) -> Tool:
    """The tool of that name. Raises UserError as `Registry.resolve`, and where a plug-in's object is not a Tool."""
    tool = TOOLS.resolve(name)
    if not isinstance(tool, Tool):
        raise UserError(f"tool {name!r}: its entry point gives a {type(tool).__name__}; it must be a Tool")
    return tool


def listings(names: Collection[str]) -> list[dict[str, Any]]:
    """Entries of a chat template's `tools` list, in the given order. Raises UserError for an unknown tool."""
    return [resolve(name).listing() for name in names]


def answer_call(body: str, names: Collection[str]) -> str:
    """The answer to the text of a `<tool_call>` block, by one of the tools `names`.

    A malformed call and a tool that is not among them are answered with an error. A tool that raises, against its
    contract, is answered with one too: a plug-in must not end a run.
    """
    call = read_call(body)
    if call is None:
        return "error: malformed tool call"
    if call.name not in names:
        return "error: unknown tool"
    tool = resolve(call.name)
    try:
        return tool.run(call.arguments)
    except Exception as error:  # a plug-in's code may fail in any way
        return f"error: {type(error).__name__}: {error}"
