"""Tools that a model can call: built-in tools, and entry points in the group `thinkling.tools`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from thinkling.data.reading import Call
from thinkling.errors import UserError
from thinkling.generate import python_tool
from thinkling.generate.calculator import CalculatorError, evaluate, write_number
from thinkling.plugins import Registry

GROUP = "thinkling.tools"


class Session(Protocol):
    """A tool's state for one sample, which persists between calls and is discarded with the sample."""

    def run(self, arguments: Mapping[str, Any], /) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tool:
    """A function that the model can call. `schema` is the JSON schema of the function's arguments.

    `run` answers a call with text. A tool with state has `open` instead of `run`: `open` is called at a sample's first
    call and returns a session, which answers all calls of that sample. The tool must not raise an exception because of
    the model's output; an invalid argument is answered with a line that starts with `error:`.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str] | None = None
    open: Callable[[], Session] | None = None
    concurrency: int = 1
    """Number of calls of different samples that may run concurrently, in threads. Set more than 1 for a tool that
    waits, for example for a server."""
    needs_sandbox: bool = False
    """Whether the tool runs model-written code."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.open is None):
            raise UserError(f"tool {self.name!r}: set exactly one of run and open")

    def listing(self) -> dict[str, Any]:
        """Returns the tool's entry in a chat template's `tools` list."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}

    def session(self) -> Session:
        """Returns a session for one sample. For a tool without state, closing the session does nothing."""
        if self.open is not None:
            return self.open()
        assert self.run is not None
        return _Stateless(self.run)


@dataclass(frozen=True)
class _Stateless:
    run: Callable[[Mapping[str, Any]], str]

    def close(self) -> None:
        """Does nothing, because there is no state."""


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
PYTHON = Tool(
    name="python",
    description=python_tool.DESCRIPTION,
    schema=python_tool.SCHEMA,
    open=python_tool.PythonTool().open,
    concurrency=python_tool.CONCURRENCY,
    needs_sandbox=True,
)
TOOLS = Registry(
    "tool", GROUP, {"calculator": "thinkling.generate.tools:CALCULATOR", "python": "thinkling.generate.tools:PYTHON"}
)


def resolve(name: str) -> Tool:
    """Returns the tool with this name. Raises UserError if no tool has the name (see `Registry.resolve`), or if a
    plug-in's object is not a Tool."""
    tool = TOOLS.resolve(name)
    if not isinstance(tool, Tool):
        raise UserError(f"tool {name!r}: its entry point is a {type(tool).__name__}, not a Tool; fix the package")
    return tool


def listings(names: Collection[str]) -> list[dict[str, Any]]:
    """Returns the tools' entries in a chat template's `tools` list, in order. Raises UserError for an unknown tool."""
    return [resolve(name).listing() for name in names]


class Toolbox:
    """The tools of one sample. A tool's session is opened at the first call of the tool."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self._sessions: dict[str, Session] = {}

    def answer(self, call: Call | None) -> str:
        """Answers a call. `call` is None if the call could not be parsed.

        A malformed call, a call of an unknown tool, and a call in which the tool violates its contract by raising an
        exception are answered with an error, because a plug-in must not end a run. Only a UserError is raised again,
        because a UserError means that this machine cannot run the tool."""
        if call is None:
            return "error: malformed tool call"
        if call.name not in self.names:
            return "error: unknown tool"
        try:
            if call.name not in self._sessions:
                self._sessions[call.name] = resolve(call.name).session()
            return self._sessions[call.name].run(call.arguments)
        except UserError:
            raise
        except Exception as error:  # a plug-in's code may fail in any way
            return f"error: {type(error).__name__}: {error}"

    def close(self) -> None:
        """Ends all sessions. Later calls open new sessions."""
        while self._sessions:
            _, session = self._sessions.popitem()
            with suppress(Exception):  # a plug-in's code may fail in any way; its answers remain valid
                session.close()


def answer_all(asked: Sequence[tuple[Toolbox, Sequence[Call | None]]]) -> list[list[str]]:
    """Answers the calls of several samples, in order. Calls of one sample are answered one after another. Calls of
    different samples are answered concurrently, as far as their tools allow."""
    tools = {call.name: resolve(call.name) for box, calls in asked for call in calls if call and call.name in box.names}
    most = min(len(asked), max((tool.concurrency for tool in tools.values()), default=1))
    if most <= 1:
        return [[box.answer(call) for call in calls] for box, calls in asked]
    free = {name: threading.BoundedSemaphore(tool.concurrency) for name, tool in tools.items()}

    def one(box: Toolbox, call: Call | None) -> str:
        if call is None or call.name not in free:
            return box.answer(call)
        with free[call.name]:
            return box.answer(call)

    with ThreadPoolExecutor(most) as pool:
        return list(pool.map(lambda sample: [one(sample[0], call) for call in sample[1]], asked))


def keeps_state(names: Collection[str]) -> bool:
    """Whether any of the tools has state. Raises UserError for an unknown tool."""
    return any(resolve(name).open is not None for name in names)


def needs_sandbox(name: str) -> bool:
    """Whether the tool with this name runs model-written code. Raises UserError for an unknown tool."""
    return resolve(name).needs_sandbox
