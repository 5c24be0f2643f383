"""Tools that a model may call: built in, or entry points of the group `thinkling.tools`."""

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
    """A tool's side of one sample: what it keeps between calls ends with the sample."""

    def run(self, arguments: Mapping[str, Any], /) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tool:
    """A function the model can call: `schema` is the JSON schema of its arguments.

    `run` answers a call in text. A tool that keeps state within a sample has `open` instead, which is called at the
    sample's first call and whose session answers the calls of that sample. Neither raises on what a model wrote: a bad
    argument is answered with a line starting `error:`.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str] | None = None
    open: Callable[[], Session] | None = None
    concurrency: int = 1
    """Calls of different samples that may run at the same time, in threads: more than 1 for a tool that waits, such as
    for a server."""
    needs_sandbox: bool = False
    """Whether it runs what a model wrote."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.open is None):
            raise UserError(f"tool {self.name!r}: it has to have either run or open")

    def listing(self) -> dict[str, Any]:
        """The entry of a chat template's `tools` list."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}

    def session(self) -> Session:
        """A session for one sample; of a tool without state, one that has nothing to close."""
        if self.open is not None:
            return self.open()
        assert self.run is not None
        return _Stateless(self.run)


@dataclass(frozen=True)
class _Stateless:
    run: Callable[[Mapping[str, Any]], str]

    def close(self) -> None:
        """Nothing is kept."""


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
    """The tool of that name. Raises UserError as `Registry.resolve`, and where a plug-in's object is not a Tool."""
    tool = TOOLS.resolve(name)
    if not isinstance(tool, Tool):
        raise UserError(f"tool {name!r}: its entry point gives a {type(tool).__name__}; it must be a Tool")
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

        A malformed call and a tool that is not in the box are answered with an error. A tool that raises, against its
        contract, is answered with one too: a plug-in must not end a run, unless it raises UserError, which says that
        this machine cannot run it."""
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
        """Ends all sessions. Later calls open fresh ones."""
        while self._sessions:
            _, session = self._sessions.popitem()
            with suppress(Exception):  # as in answer; what it answered stays right
                session.close()


def answer_all(asked: Sequence[tuple[Toolbox, Sequence[Call | None]]]) -> list[list[str]]:
    """The answers to the calls of several samples, in order. Those of one sample are answered one after another, those
    of different samples at the same time as far as their tools allow."""
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
    """Whether one of the tools has sessions. Raises UserError for an unknown tool."""
    return any(resolve(name).open is not None for name in names)


def needs_sandbox(name: str) -> bool:
    """Whether the tool of that name runs what a model wrote. Raises UserError for an unknown tool."""
    return resolve(name).needs_sandbox
