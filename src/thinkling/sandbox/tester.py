"""The process that runs the tests of a program. This process is separate from the program's process, and performs every
comparison.

The reports of a tester are as trustworthy as the tests, because the program runs in a different process, from which
only plain values and proxies for other objects arrive.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import io
import json
import sys
import types
from collections.abc import Callable, Sequence
from reprlib import repr as short_repr
from typing import Any

from thinkling.sandbox.handles import OPERATIONS, Handle
from thinkling.sandbox.judged import LINK, share_classes
from thinkling.sandbox.remote import Remote

PROGRAM_MODULES = ("solution", "main", "program", "submission", "answer", "candidate", "your_module", "user_code")
"""Module names under which tests can import the program."""
_OWN_CLASSES = ("__main__", "unittest.mock")
_ATTRIBUTES = {"getattr": getattr, "setattr": setattr, "delattr": delattr}


class Namespace(dict[str, Any]):
    """The namespace of the tests. Names of the program are looked up at every access, because the program may change
    their values."""

    def __init__(self, remote: Remote, names: Sequence[str]) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins)
        self._remote, self._names = remote, frozenset(names)

    def __missing__(self, name: str) -> Any:
        if name in self._names:
            ((there, value),) = self._remote.peer.ask("get", name)
            if there:
                return value
        raise KeyError(name)

    def copy(self) -> Namespace:  # doctest copies its namespace
        return self


class TesterRemote(Remote):
    """Calls the program with the standard streams, `input` or `print` that the tests have substituted, if any."""

    def __init__(self) -> None:
        super().__init__(LINK, 0, lambda what, values: _answer(self, what, values), strict=True)
        self._streams = sys.stdin, sys.stdout
        self._builtins = {name: getattr(builtins, name) for name in ("input", "print")}

    def call(self, handle: Any, arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
        stdin, stdout = sys.stdin, sys.stdout
        replaced = [(name, getattr(builtins, name)) for name in self._builtins]
        replaced = [(name, other) for name, other in replaced if other is not self._builtins[name]]
        if (stdin, stdout) == self._streams and not replaced:
            return super().call(handle, arguments, named)
        given = stdin.read() if stdin is not self._streams[0] else None
        found = self.peer.ask("captured", handle, arguments, named, tuple(replaced), given)
        printed, rest, raised, value = found
        stdout.write(printed)
        if given is not None and isinstance(stdin, io.StringIO):
            stdin.seek(stdin.tell() - len(rest))
        if raised:
            raise value
        return value


class ProgramModule(types.ModuleType):
    """The program in the form of a module that tests can import."""

    def __init__(self, name: str, remote: Remote) -> None:
        super().__init__(name)
        vars(self)["_thinkling_remote"] = remote

    def __getattr__(self, name: str) -> Any:
        remote = vars(self)["_thinkling_remote"]
        if name == "__all__":
            return list(remote.peer.ask("names"))
        if name.startswith("__"):
            raise AttributeError(name)
        ((there, value),) = remote.peer.ask("get", name)
        if not there:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(vars(self)["_thinkling_remote"].peer.ask("module"), name, value)


def run(content: str, report: Callable[..., None]) -> None:
    """Run a test suite. `content`: the suite as JSON; `report`: called with the result of each test."""
    suite = json.loads(content)
    remote = TesterRemote()
    remote.operators = suite["operators"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = Namespace(remote, suite["names"])
    try:
        remote.peer.ask("load", suite["prelude"], tuple(suite["classes"]))
        _take_names(suite, namespace, remote)
    except BaseException as error:
        for at in range(len(suite["tests"])):
            report(kind="test", at=at, error=_name(error), shown=short_repr(error))
        return
    setup = _outcome(lambda: _execute(suite["setup"], [], namespace), remote)
    for at, (source, runs) in enumerate(suite["tests"]):
        share_classes(remote, suite["classes"], namespace)
        found = _outcome(lambda source=source, runs=runs: _execute(source, runs, namespace), remote)
        if "error" in found and "error" in setup and found["error"] == "NameError":
            found = setup
        report(kind="test", at=at, **found)


def _take_names(suite: dict[str, Any], namespace: Namespace, remote: Remote) -> None:
    for name in PROGRAM_MODULES:
        sys.modules[name] = ProgramModule(name, remote)
    names = suite["names"]
    for name, (there, value) in zip(names, remote.peer.ask("get", *names), strict=True):
        if there and name in suite["modules"]:
            namespace[name] = importlib.import_module(name)
        elif there and (issubclass(type(value), Handle) or isinstance(value, type)):
            namespace[name] = value


def _outcome(do: Callable[[], None], remote: Remote) -> dict[str, Any]:
    try:
        do()
    except BaseException as error:
        return {"error": _name(error), "shown": short_repr(error)}
    return {"error": "Gone", "shown": remote.peer.gone} if remote.peer.gone else {}


def _name(error: BaseException) -> str:
    return type(error).__name__


def _execute(source: str, runs: Sequence[Sequence[str]], namespace: Namespace) -> None:
    exec(compile(source, "<test>", "exec", dont_inherit=True), namespace)
    for kind, name in runs:
        _RUNNERS[kind](namespace[name] if kind != "doctest" else name, namespace)


def _run_function(function: Any, namespace: Namespace) -> None:
    found = function()
    if inspect.iscoroutine(found):
        import asyncio

        asyncio.run(found)


def _run_class(kind: Any, namespace: Namespace) -> None:
    """Run a test class as pytest does, with a new object for each test."""
    for hook in ("setup_class",):
        getattr(kind, hook, lambda: None)()
    for name in [name for name in dir(kind) if name.startswith("test")]:
        one = kind()
        for hook in ("setup_method", "setUp"):
            _call_hook(one, hook, name)
        _run_function(getattr(one, name), namespace)
        for hook in ("tearDown", "teardown_method"):
            _call_hook(one, hook, name)


def _call_hook(one: Any, hook: str, name: str) -> None:
    found = getattr(one, hook, None)
    if found is not None:
        found(*[getattr(one, name)][: len(inspect.signature(found).parameters)])


def _run_case(kind: Any, namespace: Namespace) -> None:
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    for _, trace in (*result.errors, *result.failures):
        last = trace.strip().splitlines()[-1].partition(":")[0]
        raise AssertionError(last) if last == "AssertionError" else _Failed(last)
    if result.testsRun <= len(result.skipped) or result.unexpectedSuccesses:
        raise AssertionError("no test of the class was run, or one passed that should not")


class _Failed(Exception):
    """Raised if a test of a class raised an exception other than AssertionError. The message is the name of the
    exception."""


def _run_doctest(text: str, namespace: Namespace) -> None:
    import doctest

    test = doctest.DocTestParser().get_doctest(text, namespace, "<test>", None, None)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=lambda line: None, clear_globs=False)
    if runner.failures or not runner.tries:
        raise AssertionError("an example prints something else")


_RUNNERS: dict[str, Callable[[Any, Namespace], None]] = {
    "function": _run_function,
    "class": _run_class,
    "case": _run_case,
    "doctest": _run_doctest,
}


def _answer(remote: Remote, what: str, values: list[Any]) -> Any:
    """Serve a request of the program. The program may only operate on objects that the tests passed to it, and may only
    access attributes of instances of the tests' classes. It may not call anything else, because an object created here
    would belong to this side."""
    given = [remote.is_own(value) for value in values[: 1 if what == "call" else 2]]
    if what in OPERATIONS and what not in ("enter", "exit") and any(given):
        return OPERATIONS[what](*values)
    if what in _ATTRIBUTES and given[0]:
        target, name, *_ = values
        own = type(target).__module__ in _OWN_CLASSES and not isinstance(target, types.FunctionType | types.MethodType)
        if own and type(name) is str and not name.startswith("_") and name != "configure_mock":
            return _ATTRIBUTES[what](*values)
        raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")
    raise TypeError("a program cannot ask for that")
