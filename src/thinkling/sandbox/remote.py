"""The objects that a program and its tester exchange: each side's record of the objects, and their encoding in
messages."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from thinkling.sandbox.handles import (
    CallableHandle,
    ClassHandle,
    Handle,
    Kind,
    number_of,
    remote_of,
    set_base,
    set_number,
    set_remote,
)
from thinkling.sandbox.kinds import TYPES, Malformed, Parts, base_of
from thinkling.sandbox.link import Peer
from thinkling.sandbox.wire import Codec, Foreign

_SHARED_ERRORS = frozenset(
    (
        *("_csv", "_queue", "asyncio.exceptions", "binascii", "concurrent.futures._base", "copy", "csv", "dataclasses"),
        *("decimal", "graphlib", "ipaddress", "json.decoder", "queue", "re", "statistics", "struct", "zlib"),
    )
)
"""Modules of the standard library whose exception classes are looked up by name rather than proxied."""


class Remote(Foreign):
    """One side's record of objects that are proxied.

    `strict`: whether this side does not trust the other side. `operators`: whether this side forwards arithmetic
    between an object of the other side and a plain value. Only tests that create objects of the program's classes need
    `operators`."""

    def __init__(self, descriptor: int, odd: int, answer: Callable[[str, list[Any]], Any], strict: bool) -> None:
        super().__init__()
        self.peer = Peer(descriptor, Codec(odd, self), answer)
        self.peer.forget = self._forget
        self.strict = strict
        self.operators = not strict
        self._own: dict[int, Any] = {}
        self._own_numbers: dict[int, int] = {}
        self._next = 0
        self._handles: WeakValueDictionary[int, Handle] = WeakValueDictionary()
        self._kinds: dict[Any, Any] = {}
        """Number → proxy for a class; (number of a class, whether its objects are callable) → type of the proxies for
        the objects."""
        self._names: dict[int, str] = {}
        self._functions: dict[int, tuple[Any, int]] = {}
        """Id of a proxy for a function → the proxy, which is itself a function, and its number."""

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            value = self._own.pop(number, None)
            self._own_numbers.pop(id(value), None)

    def _number(self, value: Any) -> int:
        number = self._own_numbers.get(id(value))
        if number is None:
            number = self._next
            self._next += 1
            self._own[number] = value
            self._own_numbers[id(value)] = number
        return number

    def call(self, handle: Any, arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
        """Call an object of the other side."""
        return self.peer.ask("call", handle, arguments, named)

    def is_own(self, value: Any) -> bool:
        """Whether a value is an object of this side for which the other side has a handle."""
        return id(value) in self._own_numbers

    def describe(self, value: Any) -> Parts:
        kind = type(value)
        theirs = self._theirs(value, kind)
        if theirs is not None:
            return Parts(["yours", theirs], ())
        if issubclass(kind, BaseException):
            return Parts(["error", self._number(value), _text(value)], (kind, value.args))
        if issubclass(kind, type):
            if issubclass(value, BaseException):
                return Parts(["error class", self._number(value), value.__name__, value.__module__], value.__bases__)
            native = self._native(value)
            return native or Parts(["class", self._number(value), value.__name__], ())
        if inspect.iscoroutine(value):
            return Parts(["coroutine", self._number(value)], ())
        native = self._native(value)
        if native is not None:
            return native
        if isinstance(value, types.FunctionType | types.MethodType) and self.strict:
            return Parts(["function", self._number(value), value.__name__], ())
        base = base_of(kind)
        head = ["handle", self._number(value), base and base.__name__, callable(value)]
        return Parts(head, (kind,))

    def _theirs(self, value: Any, kind: type) -> int | None:
        if issubclass(kind, Handle):
            return number_of(value) if remote_of(value) is self else None
        if isinstance(value, BaseException):
            return vars(value).get("_thinkling_number")
        if kind is _ErrorKind:
            return vars(value)["_thinkling_number"]
        found = self._functions.get(id(value))
        return None if found is None else found[1]

    def _native(self, value: Any) -> Parts | None:
        """Describe an object of the standard library by its name, because the object exists on both sides. Only the
        trusted side sends objects by name."""
        if not self.strict:
            return None
        if isinstance(value, types.ModuleType):
            known = value.__name__.partition(".")[0] in sys.stdlib_module_names
            return Parts(["native", value.__name__, ""], ()) if known else None
        name = getattr(value, "__qualname__", None)
        module = getattr(value, "__module__", None) or "builtins"
        if name is None or module.partition(".")[0] not in sys.stdlib_module_names:
            return None
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return Parts(["native", module, name], ()) if found is value else None

    def resolve(self, head: list[Any], children: list[Any]) -> Any:
        match head:
            case ["yours", int(number)]:
                return self._own[number]
            case ["handle", int(number), base, bool(called)] if base is None or base in TYPES:
                return self._handle(number, base, called, children[0])
            case ["class", int(number), str(name)]:
                return self._handle(number, None, True, type, name)
            case ["function", int(number), str(name)] if not self.strict:
                return self._function(number, name)
            case ["native", str(module), str(name)] if not self.strict:
                found = importlib.import_module(module)
                for part in name.split(".") if name else ():
                    found = getattr(found, part)
                return found
            case ["coroutine", int(number)]:
                return self._await(self._handle(number, None, False, object))
            case ["error class", int(number), str(name), str(module)]:
                return self._error_class(number, name, module, children)
            case ["error", int(number), str(text)]:
                return self._error(number, text, *children)
            case _:
                raise Malformed("an unknown node")

    def _handle(self, number: int, base: str | None, called: bool, kind: Any, name: str = "") -> Any:
        self.peer.dropped.discard(number)
        known = self._handles.get(number)
        if known is not None:
            return known
        handle = object.__new__(ClassHandle if kind is type else self._kind(kind, called))
        set_remote(handle, self)
        set_number(handle, number)
        set_base(handle, base)
        self._handles[number] = handle
        if kind is type:
            self._kinds[number] = handle  # proxies for classes are never released
            self._names[number] = name
        return handle

    def _kind(self, kind: Any, called: bool) -> type:
        """Return the type of the proxies for objects of a class."""
        bases = (CallableHandle,) if called else (Handle,)
        if type(kind) is not ClassHandle:
            return bases[0]
        number = number_of(kind)
        found = self._kinds.get((number, called))
        if found is None:
            found = Kind(self._names[number], bases, {"__slots__": (), "_thinkling_class": kind})
            self._kinds[number, called] = found
        return found

    def _function(self, number: int, name: str) -> Any:
        for function, known in self._functions.values():
            if known == number:
                return function

        def function(*arguments: Any, **named: Any) -> Any:
            return self.peer.ask("call", function, arguments, tuple(named.items()))

        function.__name__ = function.__qualname__ = name
        self._functions[id(function)] = function, number
        return function

    async def _await(self, handle: Any) -> Any:
        return self.peer.ask("await", handle)

    def _error_class(self, number: int, name: str, module: str, bases: list[Any]) -> Any:
        if number in self._kinds:
            return self._kinds[number]
        if module in _SHARED_ERRORS:
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and issubclass(found, BaseException):
                self._kinds[number] = found
                return found
        usable = tuple(base for base in bases if isinstance(base, type) and issubclass(base, BaseException))
        body = {"_thinkling_number": number, "_thinkling_remote": self, "__str__": _error_text}
        found = self._kinds[number] = _ErrorKind(name, usable or (Exception,), body)
        return found

    def _error(self, number: int, text: str, kind: Any, arguments: Any) -> BaseException:
        self.peer.dropped.discard(number)
        if not isinstance(kind, type) or not issubclass(kind, BaseException) or type(arguments) is not tuple:
            raise Malformed("no exception")
        try:
            error = kind.__new__(kind, *arguments)
            if type(kind) is not _ErrorKind:
                error.__init__(*arguments)
        except Exception:  # the constructor takes arguments other than those in `args`
            error = Exception.__new__(kind)
        error.args = arguments
        vars(error).update(_thinkling_number=number, _thinkling_text=text)
        return error


def _text(error: BaseException) -> str:
    try:
        return str(error)[:10_000]
    except Exception:  # the exception's __str__ failed
        return ""


def _error_text(error: BaseException) -> str:
    text = vars(error).get("_thinkling_text")
    return BaseException.__str__(error) if text is None else text


class _ErrorKind(type):
    """Metaclass of proxies for exception classes of the other process. The proxies are real exception classes, so that
    tests can catch them."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or name.startswith("_thinkling"):
            raise AttributeError(name)
        remote = cls.__dict__.get("_thinkling_remote")
        if remote is None:
            raise AttributeError(name)
        return remote.peer.ask("getattr", cls, name)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        remote = cls.__dict__.get("_thinkling_remote")
        if remote is None:
            return super().__call__(*arguments, **named)
        return remote.peer.ask("call", cls, arguments, tuple(named.items()))

    def __new__(mcs, name: str, bases: tuple[Any, ...], body: dict[str, Any]) -> Any:
        return super().__new__(mcs, name, bases, {**body, "__getattr__": _error_attribute})


def _error_attribute(error: BaseException, name: str) -> Any:
    if name.startswith("__") or name.startswith("_thinkling") or "_thinkling_number" not in vars(error):
        raise AttributeError(name)
    return type(error).__dict__["_thinkling_remote"].peer.ask("getattr", error, name)
