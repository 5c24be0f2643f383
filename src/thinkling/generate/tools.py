"""Tools that a model can call: built in, or entry points in the group `thinkling.tools`."""

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
    """A tool's state for one sample, kept between calls and dropped with the sample."""

    def run(self, arguments: Mapping[str, Any], /) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tool:
    """A function the model can call: `schema` is the JSON schema of its arguments.

    `run` answers a call with text. A tool that keeps state within a sample has `open` instead: it is called at the
    sample's first call and returns a session that answers the sample's calls. Neither may raise on model output: a bad
    argument is answered with a line starting with `error:`.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str] | None = None
    open: Callable[[], Session] | None = None
    concurrency: int = 1
    """Number of calls of different samples that may run concurrently, in threads: more than 1 for a tool that waits,
    e.g. for a server."""
    needs_sandbox: bool = False
    """Whether it runs model-written code."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.open is None):
            raise UserError(f"tool {self.name!r}: must have exactly one of run and open")

    def listing(self) -> dict[str, Any]:
        """The entry of a chat template's `tools` list."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}

    def session(self) -> Session:
        """A session for one sample; without state there is nothing to close."""
        if self.open is not None:
            return self.open()
        assert self.run is not None
        return _Stateless(self.run)


@dataclass(frozen=True)
class _Stateless:
    run: Callable[[Mapping[str, Any]], str]

    def close(self) -> None:
        """No state to drop."""


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
    """The tool with that name. Raises UserError as `Registry.resolve` does, and if a plug-in's object is not a Tool."""
    tool = TOOLS.resolve(name)
    if not isinstance(tool, Tool):
        raise UserError(f"tool {name!r}: its entry point names a {type(tool).__name__}; it must be a Tool")
    return tool


def listings(names: Collection[str]) -> list[dict[str, Any]]:
    """Entries of a chat template's `tools` list, in the given order. Raises UserError for an unknown tool."""
    return [resolve(name).listing() for name in names]


class Toolbox:
    """The tools of one sample. A session is opened at a tool's first call."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self._sessions: dict[str, Session] = {}

    def answer(self, call: Call | None) -> str:
        """The answer to a call; None: one that could not be read.

        A malformed call, an unknown tool and a tool that raises (against its contract) are answered with an error: a
        plug-in must not end a run, except by a UserError, which means that this machine cannot run it."""
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
        """Ends all sessions. Later calls open new ones."""
        while self._sessions:
            _, session = self._sessions.popitem()
            with suppress(Exception):  # as in answer; its earlier answers stay valid
                session.close()


def answer_all(asked: Sequence[tuple[Toolbox, Sequence[Call | None]]]) -> list[list[str]]:
    """The answers to the calls of several samples, in order. Calls of one sample are answered one after another, calls
    of different samples concurrently as far as their tools allow."""
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
    """Whether any of the tools has sessions. Raises UserError for an unknown tool."""
    return any(resolve(name).open is not None for name in names)


def needs_sandbox(name: str) -> bool:
    """Whether the tool with that name runs model-written code. Raises UserError for an unknown tool."""
    return resolve(name).needs_sandbox
