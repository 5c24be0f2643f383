"""Objects of the other side: stand-ins that ask their owner for all that they do, and what an owner is asked for.

A stand-in equals no plain value. That is decided here and never asked, so that an object which says of itself that it
equals everything is equal to nothing that a test expects. Whether two objects of a program are equal is asked of it.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
import types
from collections.abc import Callable, Sequence
from math import ceil, floor, trunc
from typing import Any
from weakref import WeakValueDictionary

from thinkling.sandbox.link import Peer
from thinkling.sandbox.wire import TYPES, Codec, Foreign, Malformed, Parts, base_of

_SHARED_ERRORS = frozenset(
    (
        *("_csv", "_queue", "asyncio.exceptions", "binascii", "concurrent.futures._base", "copy", "csv", "dataclasses"),
        *("decimal", "graphlib", "ipaddress", "json.decoder", "queue", "re", "statistics", "struct", "zlib"),
    )
)
"""Modules of the standard library whose exceptions are the same class on both sides."""
_ARITHMETIC = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lshift", "rshift"),
    *("and_", "or_", "xor"),
)
_ORDER = ("lt", "le", "gt", "ge")
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "abs": abs, "int": int, "float": float,
    "complex": complex, "index": operator.index, "round": round, "trunc": trunc, "floor": floor, "ceil": ceil,
}  # fmt: skip
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in (*_ARITHMETIC, *_ORDER, "eq", "ne")},
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "contains", "length_hint")},
    **_UNARY,
    "divmod": divmod, "len": len, "bool": bool, "str": str, "repr": repr, "hash": hash, "format": format,
    "bytes": bytes, "iter": iter, "next": next, "reversed": reversed,
    "call": lambda function, arguments, named: function(*arguments, **dict(named)),
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value, error: type(value).__exit__(value, error and type(error), error, None),
}  # fmt: skip
"""What either side may be asked to do with an object of its own."""


class Remote(Foreign):
    """One side's view of the other.

    `strict`: this side does not trust the other; `operators`: it asks for arithmetic between an object of the other
    side and a plain value, which only tests that make objects of the program's classes need."""

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
        """Stand-ins for classes, by number; types of stand-ins for objects, by class and whether they can be called."""
        self._names: dict[int, str] = {}
        self._functions: dict[int, tuple[Any, int]] = {}
        """Stand-ins for functions, which are functions themselves, by id."""

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
        """Calls an object of the other side."""
        return self.peer.ask("call", handle, arguments, named)

    def is_own(self, value: Any) -> bool:
        """Whether it is an object that the other side was given a handle of."""
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
            return _number_of(value) if _remote_of(value) is self else None
        if isinstance(value, BaseException):
            return vars(value).get("_thinkling_number")
        if kind is _ErrorKind:
            return vars(value)["_thinkling_number"]
        found = self._functions.get(id(value))
        return None if found is None else found[1]

    def _native(self, value: Any) -> Parts | None:
        """What the standard library has on both sides is named, by the side that is trusted."""
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
        _set_remote(handle, self)
        _set_number(handle, number)
        _set_base(handle, base)
        self._handles[number] = handle
        if kind is type:
            self._kinds[number] = handle  # a class is kept
            self._names[number] = name
        return handle

    def _kind(self, kind: Any, called: bool) -> type:
        """The type of stand-ins for objects of one class."""
        bases = (CallableHandle,) if called else (Handle,)
        if type(kind) is not ClassHandle:
            return bases[0]
        number = _number_of(kind)
        found = self._kinds.get((number, called))
        if found is None:
            found = _Kind(self._names[number], bases, {"__slots__": (), "_thinkling_class": kind})
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
        except Exception:  # a class that is made of other arguments than it keeps
            error = Exception.__new__(kind)
        error.args = arguments
        vars(error).update(_thinkling_number=number, _thinkling_text=text)
        return error


def _text(error: BaseException) -> str:
    try:
        return str(error)[:10_000]
    except Exception:  # its own __str__
        return ""


def _error_text(error: BaseException) -> str:
    text = vars(error).get("_thinkling_text")
    return BaseException.__str__(error) if text is None else text


class _ErrorKind(type):
    """Of classes that stand in for the other side's exceptions, so that they can be caught."""

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


class _Kind(type):
    """Of the types of stand-ins: such a type answers for the class that it stands in for."""

    def __getattr__(cls, name: str) -> Any:
        kind = cls.__dict__.get("_thinkling_class")
        if kind is None or name.startswith("_thinkling"):
            raise AttributeError(name)
        return getattr(kind, name)

    def __eq__(cls, other: object) -> bool:
        return cls is other or (type(other) is ClassHandle and cls.__dict__.get("_thinkling_class") is other)

    def __hash__(cls) -> int:
        return id(cls)


def _is_handle(value: Any) -> bool:
    return issubclass(type(value), Handle)


def _ask(what: str, handle: Any, *arguments: Any) -> Any:
    return _remote_of(handle).peer.ask(what, handle, *arguments)


class Handle(metaclass=_Kind):
    """An object of the other side."""

    __slots__ = ("__weakref__", "_base", "_number", "_remote")

    def __del__(self) -> None:
        _remote_of(self).peer.dropped.add(_number_of(self))

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" and _base_of(self):
            return TYPES[_base_of(self)]
        if name == "__signature__":
            return _signature(self)
        if name == "__globals__":  # of functions: all that the program has
            raise AttributeError(name)
        if name in _OWN_ATTRIBUTES:
            return object.__getattribute__(self, name)
        return _ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        _ask("delattr", self, name)

    def __eq__(self, other: object) -> Any:
        if _is_handle(other) or not _remote_of(self).strict:
            return _ask("eq", self, other)
        return _plain(self) == other if _base_of(self) else NotImplemented

    def __ne__(self, other: object) -> Any:
        if _is_handle(other) or not _remote_of(self).strict:
            return _ask("ne", self, other)
        return _plain(self) != other if _base_of(self) else NotImplemented

    def __hash__(self) -> int:
        return _ask("hash", self)

    def __contains__(self, item: Any) -> bool:
        if _local(self, item):
            return item in _plain(self) if _base_of(self) else any(item is one or item == one for one in self)
        return _ask("contains", self, item)

    def __iter__(self) -> Any:
        return _ask("iter", self)

    def __next__(self) -> Any:
        return _ask("next", self)

    def __getitem__(self, key: Any) -> Any:
        return _ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        _ask("delitem", self, key)

    def __len__(self) -> int:
        return _ask("len", self)

    def __length_hint__(self) -> int:
        return _ask("length_hint", self)

    def __bool__(self) -> bool:
        return _ask("bool", self)

    def __str__(self) -> str:
        return _ask("str", self)

    def __repr__(self) -> str:
        return _ask("repr", self)

    def __format__(self, form: str) -> str:
        return _ask("format", self, form)

    def __bytes__(self) -> bytes:
        return _ask("bytes", self)

    def __reversed__(self) -> Any:
        return _ask("reversed", self)

    def __enter__(self) -> Any:
        return _ask("enter", self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return _ask("exit", self, error)

    def __divmod__(self, other: Any) -> Any:
        return divmod(_plain(self), other) if _local(self, other) and _base_of(self) else _ask("divmod", self, other)

    def __await__(self) -> Any:
        yield from ()
        return _ask("await", self)

    def __copy__(self) -> Any:
        return _ask("copy", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return _ask("deepcopy", self)

    def __dir__(self) -> Any:
        return _ask("dir", self)


class CallableHandle(Handle):
    """One that can be called."""

    __slots__ = ()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _remote_of(self).call(self, arguments, tuple(named.items()))


class ClassHandle(CallableHandle):
    """A class of the other side."""

    __slots__ = ()

    def __instancecheck__(self, value: Any) -> bool:
        return _ask("isinstance", self, value)

    def __subclasscheck__(self, value: Any) -> bool:
        return _ask("issubclass", self, value)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        raise TypeError("a class of the tests cannot derive from a class of the program")


_OWN_ATTRIBUTES = frozenset(
    (
        *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__copy__", "__deepcopy__", "__class__"),
        "__mro_entries__",
    )
)
"""Attributes that are looked up here."""
_slots = vars(Handle)
_remote_of, _set_remote = _slots["_remote"].__get__, _slots["_remote"].__set__
_number_of, _set_number = _slots["_number"].__get__, _slots["_number"].__set__
_base_of, _set_base = _slots["_base"].__get__, _slots["_base"].__set__


def _plain(handle: Any) -> Any:
    """An object of a subclass of a plain type, as its base's value."""
    return _ask("base", handle)


def _signature(handle: Any) -> inspect.Signature:
    parameters, result = _ask("signature", handle)
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect._ParameterKind(kind), default=default, annotation=annotation)
            for name, kind, default, annotation in (
                (name, kind, *(one[0] if one else inspect.Parameter.empty for one in optional))
                for name, kind, *optional in parameters
            )
        ],
        return_annotation=result[0] if result else inspect.Signature.empty,
    )


def signature_parts(function: Any) -> tuple[Any, ...]:
    """Of a function, without the marks for what is missing: an empty tuple says so."""
    found = inspect.signature(function)

    def present(value: Any) -> tuple[Any, ...]:
        return () if value is inspect.Parameter.empty else (value,)

    parameters = [
        (one.name, int(one.kind), present(one.default), present(one.annotation)) for one in found.parameters.values()
    ]
    return tuple(parameters), present(found.return_annotation)


def _local(handle: Any, other: Any) -> bool:
    """Whether an operation with a plain value is not for the other side to decide."""
    return not _remote_of(handle).operators and not _is_handle(other)


def _binary(name: str, reflected: bool) -> Callable[[Any, Any], Any]:
    apply = OPERATIONS[name]

    def method(self: Any, other: Any) -> Any:
        if _local(self, other):
            if not _base_of(self):
                return NotImplemented
            return apply(other, _plain(self)) if reflected else apply(_plain(self), other)
        remote = _remote_of(self)
        return remote.peer.ask(name, other, self) if reflected else remote.peer.ask(name, self, other)

    return method


def _unary(name: str) -> Callable[..., Any]:
    apply = _UNARY[name]

    def method(self: Any, *arguments: Any) -> Any:
        frozen = _base_of(self) in ("int", "float", "complex") and not _remote_of(self).operators
        return apply(_plain(self), *arguments) if frozen else _ask(name, self, *arguments)

    return method


for _name in _ARITHMETIC:
    _plain_name = _name.rstrip("_")
    setattr(Handle, f"__{_plain_name}__", _binary(_name, False))
    setattr(Handle, f"__r{_plain_name}__", _binary(_name, True))
for _name in _ORDER:
    setattr(Handle, f"__{_name}__", _binary(_name, False))
for _name in _UNARY:
    setattr(Handle, f"__{_name}__", _unary(_name))
