"""Proxies with which a program and its tester use each other's objects. A proxy forwards operations to the process that
owns the object.

In the tester, a proxy never equals a plain value. The comparison is not forwarded, so that an object of the program
that claims to equal everything does not equal a value that a test expects. The program is only asked whether two of its
own objects are equal.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from math import ceil, floor, trunc
from typing import Any

from thinkling.sandbox.kinds import TYPES

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
"""Operations that each process may request on objects of the other process."""


class Kind(type):
    """Metaclass of proxy types. A proxy type forwards attribute access to the class that it represents."""

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
    return remote_of(handle).peer.ask(what, handle, *arguments)


class Handle(metaclass=Kind):
    """A proxy for an object of the other process."""

    __slots__ = ("__weakref__", "_base", "_number", "_remote")

    def __del__(self) -> None:
        remote_of(self).peer.dropped.add(number_of(self))

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" and _base_of(self):
            return TYPES[_base_of(self)]
        if name == "__signature__":
            return _signature(self)
        if name == "__globals__":  # would expose the whole namespace of a function's module
            raise AttributeError(name)
        if name in _OWN_ATTRIBUTES:
            return object.__getattribute__(self, name)
        return _ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        _ask("delattr", self, name)

    def __eq__(self, other: object) -> Any:
        if _is_handle(other) or not remote_of(self).strict:
            return _ask("eq", self, other)
        return _plain(self) == other if _base_of(self) else NotImplemented

    def __ne__(self, other: object) -> Any:
        if _is_handle(other) or not remote_of(self).strict:
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
    """A proxy for a callable object of the other process."""

    __slots__ = ()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return remote_of(self).call(self, arguments, tuple(named.items()))


class ClassHandle(CallableHandle):
    """A proxy for a class of the other process."""

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
"""Attributes of a proxy that are looked up in this process rather than forwarded."""
_slots = vars(Handle)
remote_of, set_remote = _slots["_remote"].__get__, _slots["_remote"].__set__
number_of, set_number = _slots["_number"].__get__, _slots["_number"].__set__
_base_of, set_base = _slots["_base"].__get__, _slots["_base"].__set__


def _plain(handle: Any) -> Any:
    """Return an object of a subclass of a plain type, such as int, converted to the plain type."""
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
    """Return the signature of a function as plain values. A missing default or annotation is an empty tuple."""
    found = inspect.signature(function)

    def present(value: Any) -> tuple[Any, ...]:
        return () if value is inspect.Parameter.empty else (value,)

    parameters = [
        (one.name, int(one.kind), present(one.default), present(one.annotation)) for one in found.parameters.values()
    ]
    return tuple(parameters), present(found.return_annotation)


def _local(handle: Any, other: Any) -> bool:
    """Whether an operation with `other` must be performed on this side, because `other` is a plain value."""
    return not remote_of(handle).operators and not _is_handle(other)


def _binary(name: str, reflected: bool) -> Callable[[Any, Any], Any]:
    apply = OPERATIONS[name]

    def method(self: Any, other: Any) -> Any:
        if _local(self, other):
            if not _base_of(self):
                return NotImplemented
            return apply(other, _plain(self)) if reflected else apply(_plain(self), other)
        remote = remote_of(self)
        return remote.peer.ask(name, other, self) if reflected else remote.peer.ask(name, self, other)

    return method


def _unary(name: str) -> Callable[..., Any]:
    apply = _UNARY[name]

    def method(self: Any, *arguments: Any) -> Any:
        frozen = _base_of(self) in ("int", "float", "complex") and not remote_of(self).operators
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
