"""The calculator as a tool, and the Hermes spelling of its call."""

import json
import threading
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkling import plugins
from thinkling.data.reading import Call
from thinkling.errors import UserError
from thinkling.generate import tools
from thinkling.generate.hermes import call_text, read_call, response_text
from thinkling.generate.tools import Tool, Toolbox, answer_all, listings, resolve
from thinkling.tasks.problem import Problem

NAMES = ("calculator",)


def answer_call(body: str, names: Collection[str]) -> str:
    """The answer of a sample's tools to the text between two tags."""
    return Toolbox(names).answer(read_call(body))


def test_hermes_spelling() -> None:
    text = call_text("calculator", {"expression": "47*83"})
    assert text == '<tool_call>\n{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call>'
    assert response_text("3901") == "<tool_response>\n3901\n</tool_response>"


@given(st.text(), st.dictionaries(st.text(), st.integers() | st.text()))
def test_calls_read_back(name: str, arguments: dict) -> None:
    body = call_text(name, arguments).removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert read_call(body) == Call(name, arguments)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "47*83",
        "[1]",
        '{"name": "calculator"}',
        '{"name": 1, "arguments": {}}',
        '{"name": "calculator", "arguments": "47*83"}',
        '{"name": "calculator", "arguments": {}, "more": 1}',
        '{"name": "calculator", "arguments": {"expression": "1"}',
        "[" * 100_000,
    ],
)
def test_malformed_calls(body: str) -> None:
    assert read_call(body) is None
    assert answer_call(body, NAMES) == "error: malformed tool call"


def test_answers() -> None:
    def ask(name: str, arguments: dict) -> str:
        return answer_call(json.dumps({"name": name, "arguments": arguments}), NAMES)

    assert ask("calculator", {"expression": "47*83"}) == "3901"
    assert ask("calculator", {"expression": "7/2"}) == "3.5"
    assert ask("calculator", {"expression": "1/0"}) == "error: division by zero"
    assert ask("calculator", {"expression": 3}).startswith("error:")
    assert ask("calculator", {"expression": "1", "x": 2}).startswith("error:")
    assert ask("shell", {"expression": "1"}) == "error: unknown tool"


def test_listing() -> None:
    function = listings(NAMES)[0]["function"]
    assert function["name"] == "calculator"
    assert function["parameters"]["required"] == ["expression"]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs packages with these tools, as entry points would."""

    def install(**points: object) -> None:
        class Point(EntryPoint):
            def load(self) -> object:
                loaded = points[self.name]
                if isinstance(loaded, Exception):
                    raise loaded
                return loaded

        found = [Point(name, f"package:{name}", tools.GROUP) for name in points]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == tools.GROUP else [])

    monkeypatch.setattr(tools, "TOOLS", plugins.Registry("tool", tools.GROUP, tools.TOOLS.built_in))
    return install


def search(arguments: Mapping[str, Any]) -> str:
    if "query" not in arguments:
        raise KeyError("query")
    return f"found {arguments['query']}"


SEARCH = Tool("search", "Finds pages.", {"type": "object"}, search)


def test_a_package_adds_a_tool(offer: Callable[..., None]) -> None:
    offer(search=SEARCH)
    assert answer_call('{"name": "search", "arguments": {"query": "x"}}', ["search"]) == "found x"
    assert listings(["calculator", "search"])[1]["function"]["description"] == "Finds pages."


def test_a_tool_that_raises_is_answered_with_an_error(offer: Callable[..., None]) -> None:
    offer(search=SEARCH)
    assert answer_call('{"name": "search", "arguments": {}}', ["search"]) == "error: KeyError: 'query'"


def test_a_broken_tool_is_named_and_fails_only_what_uses_it(offer: Callable[..., None]) -> None:
    offer(lost=ImportError("no module x"), text="no tool")
    with pytest.raises(UserError, match=r"tool 'lost': package:lost cannot be loaded \(no module x\)"):
        resolve("lost")
    with pytest.raises(UserError, match="tool 'text': its entry point is a str, not a Tool; fix the package"):
        resolve("text")
    assert resolve("calculator") is tools.CALCULATOR


def test_a_built_in_tool_cannot_be_replaced(offer: Callable[..., None]) -> None:
    offer(calculator=SEARCH)
    with pytest.raises(UserError, match="'calculator' is defined more than once; rename the entry point package:calc"):
        resolve("calculator")


def test_a_tool_is_called_by_the_problems_that_name_it_alone(offer: Callable[..., None]) -> None:
    offer(search=SEARCH)
    problem = Problem("0", "a", "q", "1", "", "exact", tools=NAMES)
    assert answer_call('{"name": "search", "arguments": {"query": "x"}}', problem.tools) == "error: unknown tool"


# Sessions, and several calls at once.


class Counter:
    """Counts its calls; remembers all that were opened."""

    opened: ClassVar[list["Counter"]] = []

    def __init__(self) -> None:
        self.calls, self.closed = 0, 0
        Counter.opened.append(self)

    def run(self, arguments: Mapping[str, Any]) -> str:
        self.calls += 1
        if "fail" in arguments:
            raise KeyError("fail")
        if "machine" in arguments:
            raise UserError("no such machine")
        return str(self.calls)

    def close(self) -> None:
        self.closed += 1
        raise OSError("a plug-in may fail here too")


@pytest.fixture
def counter(offer: Callable[..., None]) -> list[Counter]:
    offer(counter=Tool("counter", "Counts.", {"type": "object"}, open=Counter))
    Counter.opened = []
    return Counter.opened


def test_a_session_is_opened_at_its_first_call_and_closed_with_the_sample(counter: list[Counter]) -> None:
    boxes = [Toolbox(["counter"]) for _ in range(3)]
    assert counter == []
    call = Call("counter", {})
    assert [boxes[0].answer(call), boxes[1].answer(call), boxes[0].answer(call)] == ["1", "1", "2"]
    for box in boxes:
        box.close()
        box.close()
    assert [one.closed for one in counter] == [1, 1]
    assert boxes[0].answer(call) == "1"


def test_a_session_that_raises_is_answered_with_an_error_and_lives_on(counter: list[Counter]) -> None:
    box = Toolbox(["counter"])
    assert box.answer(Call("counter", {"fail": 1})) == "error: KeyError: 'fail'"
    assert box.answer(Call("counter", {})) == "2"
    with pytest.raises(UserError, match="no such machine"):
        box.answer(Call("counter", {"machine": 1}))
    assert len(counter) == 1


def test_a_tool_has_either_run_or_open() -> None:
    for functions in ({}, {"run": search, "open": Counter}):
        with pytest.raises(UserError, match="tool 'x': set exactly one of run and open"):
            Tool("x", "", {}, **functions)


def test_calls_of_different_samples_run_at_the_same_time_in_order(offer: Callable[..., None]) -> None:
    """As many as the tool allows, and no more; those of one sample one after another."""
    meet = threading.Barrier(3)
    under_way: list[int] = []
    most = 0

    def wait(arguments: Mapping[str, Any]) -> str:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        meet.wait(60)
        under_way.pop()
        return str(arguments["n"])

    offer(slow=Tool("slow", "Waits.", {"type": "object"}, wait, concurrency=3))
    asked = [(Toolbox(["slow"]), [Call("slow", {"n": 10 * i + j}) for j in range(2)]) for i in range(6)]
    assert answer_all(asked) == [[str(10 * i), str(10 * i + 1)] for i in range(6)]
    assert most == 3


def test_answers_come_in_order_without_threads_too() -> None:
    calls = [None, Call("calculator", {"expression": "1+1"}), Call("shell", {})]
    errors = ["error: malformed tool call", "2", "error: unknown tool"]
    assert answer_all([(Toolbox(NAMES), calls), (Toolbox(()), calls[1:2])]) == [errors, ["error: unknown tool"]]
    assert answer_all([]) == []
