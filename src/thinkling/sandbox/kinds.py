"""Conversion of plain values to the parts of a message and back, type by type. wire.py defines the messages."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import functools
import io
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
from array import array
from collections import Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

ATOMS = (type(None), bool, float)


class Malformed(Exception):
    """Raised for a message that a well-behaved side never sends."""


class Parts(NamedTuple):
    """The parts of a value: a list with a tag and the tag's data, and the values to which the value refers."""

    head: list[Any]
    children: Sequence[Any]
    changes: bool = False
    """Whether the value is a mutable object."""


def pairs(value: Any) -> list[Any]:
    return [part for pair in value for part in pair]


def odd_text(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON would combine two surrogates to one character
        return True
    return False


def _zone(value: datetime.datetime | datetime.time) -> datetime.timedelta | None:
    return value.utcoffset()


_DATE = ("year", "month", "day")
_TIME = ("hour", "minute", "second", "microsecond", "fold")

WRITERS: dict[type, Callable[[Any], Parts]] = {
    int: lambda v: Parts(["i", hex(v)], ()),
    str: lambda v: Parts(["s", v.encode("utf-8", "surrogatepass").hex()], ()),
    complex: lambda v: Parts(["c", v.real, v.imag], ()),
    bytes: lambda v: Parts(["b", v.hex()], ()),
    type(...): lambda v: Parts(["..."], ()),
    type(NotImplemented): lambda v: Parts(["not implemented"], ()),
    tuple: lambda v: Parts(["t"], v),
    frozenset: lambda v: Parts(["f"], tuple(v)),
    range: lambda v: Parts(["range"], (v.start, v.stop, v.step)),
    slice: lambda v: Parts(["slice"], (v.start, v.stop, v.step)),
    type({}.keys()): lambda v: Parts(["keys"], tuple(v)),
    type({}.items()): lambda v: Parts(["items"], pairs(v)),
    decimal.Decimal: lambda v: Parts(["decimal", str(v)], ()),
    fractions.Fraction: lambda v: Parts(["fraction"], (v.numerator, v.denominator)),
    datetime.timedelta: lambda v: Parts(["span", v.days, v.seconds, v.microseconds], ()),
    datetime.date: lambda v: Parts(["date", *(getattr(v, name) for name in _DATE)], ()),
    datetime.time: lambda v: Parts(["time", *(getattr(v, name) for name in _TIME)], (_zone(v),)),
    datetime.datetime: lambda v: Parts(["datetime", *(getattr(v, name) for name in _DATE + _TIME)], (_zone(v),)),
    datetime.timezone: lambda v: Parts(["zone"], (v.utcoffset(None),)),
    uuid.UUID: lambda v: Parts(["uuid", v.hex], ()),
    memoryview: lambda v: Parts(["view", v.tobytes().hex()], ()),
    types.MappingProxyType: lambda v: Parts(["proxy"], pairs(v.items())),
    collections.ChainMap: lambda v: Parts(["chain"], pairs(v.items())),
    re.Pattern: lambda v: Parts(["pattern", v.flags], (v.pattern,)),
    pathlib.PosixPath: lambda v: Parts(["path"], (str(v),)),
    pathlib.PurePosixPath: lambda v: Parts(["pure path"], (str(v),)),
    types.GenericAlias: lambda v: Parts(["alias"], (v.__origin__, v.__args__)),
    types.UnionType: lambda v: Parts(["union"], v.__args__),
    list: lambda v: Parts(["l"], v, True),
    dict: lambda v: Parts(["d"], pairs(v.items()), True),
    set: lambda v: Parts(["set"], tuple(v), True),
    deque: lambda v: Parts(["deque", v.maxlen], tuple(v), True),
    OrderedDict: lambda v: Parts(["ordered"], pairs(v.items()), True),
    Counter: lambda v: Parts(["counter"], pairs(v.items()), True),
    defaultdict: lambda v: Parts(["default"], [v.default_factory, *pairs(v.items())], True),
    UserDict: lambda v: Parts(["userdict"], pairs(v.data.items()), True),
    UserList: lambda v: Parts(["userlist"], tuple(v.data), True),
    UserString: lambda v: Parts(["userstring"], (v.data,)),
    types.SimpleNamespace: lambda v: Parts(["namespace"], pairs(vars(v).items()), True),
    bytearray: lambda v: Parts(["bytearray", v.hex()], (), True),
    array: lambda v: Parts(["array", v.typecode, v.tobytes().hex()], (), True),
    io.StringIO: lambda v: Parts(["text", v.tell()], (v.getvalue(),), True),
    io.BytesIO: lambda v: Parts(["bytes", v.tell(), v.getvalue().hex()], (), True),
}  # fmt: skip

_ERRORS = [one for one in vars(builtins).values() if isinstance(one, type) and issubclass(one, BaseException)]
_OTHERS = (object, type, property, types.FunctionType, types.MethodType)
_ALL: tuple[type, ...] = (*WRITERS, *ATOMS, *_OTHERS, *_ERRORS)
TYPES: dict[str, type] = {kind.__name__: kind for kind in _ALL}
"""Types that exist on both sides, by name."""
TYPE_NAMES = {kind: name for name, kind in TYPES.items()}


BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
    tuple: lambda v: tuple.__getitem__(v, slice(None)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
    list: lambda v: list.__getitem__(v, slice(None)),
    OrderedDict: lambda v: OrderedDict(OrderedDict.items(v)),
    Counter: lambda v: Counter(dict(dict.items(v))),
    dict: lambda v: dict(dict.items(v)),
    set: lambda v: set(set.__iter__(v)),
    deque: lambda v: deque(deque.__iter__(v)),
    UserDict: lambda v: dict(v.data),
    UserList: lambda v: list(v.data),
    decimal.Decimal: decimal.Decimal.__pos__,
    fractions.Fraction: lambda v: fractions.Fraction(v.numerator, v.denominator),
}
"""Base type → conversion from an object of a subclass to a value of the base type."""
STREAMS = (io.StringIO, io.BytesIO)
FROZEN = (int, float, complex, str, bytes, tuple, frozenset)


def base_of(kind: type) -> type | None:
    """Return the plain type from which a class derives, or None."""
    return next((base for base in kind.__mro__[1:] if base in BASES), None)


def base_value(value: Any) -> Any:
    """Convert an object of a subclass to the plain base type. Raises TypeError if it has no plain base."""
    base = base_of(type(value))
    if base is None:
        raise TypeError(f"{type(value).__name__} has no plain base")
    return BASES[base](value)


def named_fields(kind: type) -> tuple[str, ...] | None:
    """Return the fields of a class created by collections.namedtuple, or of a NamedTuple without added attributes."""
    fields = kind.__dict__.get("_fields")
    if not issubclass(kind, tuple) or not isinstance(fields, tuple) or kind.__mro__[1] is not tuple:
        return None
    return None if own_names(kind) - set(fields) - {"count", "index"} else fields


def own_names(kind: type) -> set[str]:
    """Return the public names that a class adds to its plain base."""
    base = base_of(kind)
    found: set[str] = set()
    for one in kind.__mro__[: kind.__mro__.index(base) if base else 1]:
        found |= {name for name in vars(one) if not name.startswith("_")}
    return found


def numpy_parts(value: Any) -> Parts | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value).__module__ != "numpy":
        return None
    if not isinstance(value, numpy.ndarray | numpy.generic) or numpy.asarray(value).dtype.kind not in "biufcSUmM":
        return None
    found = numpy.ascontiguousarray(value) if value.ndim else numpy.asarray(value)
    whole = isinstance(value, numpy.ndarray)
    head = ["numpy" if whole else "numpy scalar", found.dtype.str, list(value.shape), found.tobytes().hex()]
    return Parts(head, (), whole)


def typing_parts(value: Any) -> Parts | None:
    """Return the parts of a typing construct, such as `List[int]`, `Optional[str]` or `Any`, or None."""
    if type(value).__module__ != "typing" and value is not typing.Any:
        return None
    name = getattr(value, "_name", None) or getattr(value, "__name__", None)
    name = "Union" if typing.get_origin(value) is typing.Union else name
    arguments = [tuple(one) if isinstance(one, list) else one for one in typing.get_args(value)]  # for Callable
    return Parts(["typing", name], arguments) if name in typing.__all__ else None


def _typing_form(name: str, arguments: tuple[Any, ...]) -> Any:
    if name not in typing.__all__:
        raise Malformed("not a typing construct")
    if name == "Callable" and arguments and isinstance(arguments[0], tuple):
        arguments = (list(arguments[0]), *arguments[1:])
    return getattr(typing, name)[arguments] if arguments else getattr(typing, name)


def tag_of(value: Any, classes: dict[str, type]) -> str:
    kind = type(value)
    if kind in WRITERS:
        return _TAGS[kind]
    return "object" if classes.get(kind.__name__) is kind else "numpy"


_TAGS = {
    list: "l", dict: "d", set: "set", deque: "deque", OrderedDict: "ordered", Counter: "counter",
    defaultdict: "default", UserDict: "userdict", UserList: "userlist", types.SimpleNamespace: "namespace",
    bytearray: "bytearray", array: "array", io.StringIO: "text", io.BytesIO: "bytes",
}  # fmt: skip
SHELLS = {tag: kind for kind, tag in _TAGS.items() if kind not in (array, deque)}


def attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if not name.startswith("__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _keyed(children: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(children[::2], children[1::2], strict=True)


def _fill_mapping(shell: Any, head: list[Any], children: list[Any]) -> None:
    dict.clear(shell) if type(shell) is not OrderedDict else shell.clear()
    for key, value in _keyed(children):
        shell[key] = value


def _fill_default(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell.default_factory, *items = children
    _fill_mapping(shell, head, items)


def _fill_list(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell[:] = children


def _fill_set(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell.clear()
    shell.update(children)


def _fill_deque(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell.clear()
    shell.extend(children)


def _fill_userdict(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell.data = dict(_keyed(children))


def _fill_userlist(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell.data = list(children)


def _fill_object(shell: Any, head: list[Any], children: list[Any]) -> None:
    new = dict(_keyed(children))
    for name in attributes(shell).keys() - new.keys():
        object.__delattr__(shell, name)
    for name, value in new.items():
        object.__setattr__(shell, name, value)


def _fill_bytearray(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell[:] = bytes.fromhex(head[2])


def _fill_array(shell: Any, head: list[Any], children: list[Any]) -> None:
    del shell[:]
    shell.frombytes(bytes.fromhex(head[3]))


def _fill_stream(shell: Any, head: list[Any], children: list[Any]) -> None:
    content = children[0] if children else bytes.fromhex(head[3])
    shell.seek(0)
    shell.truncate()
    shell.write(content)
    shell.seek(head[2])


def _fill_numpy(shell: Any, head: list[Any], children: list[Any]) -> None:
    shell[...] = _numpy_array(head[2:])


def _numpy_array(head: list[Any]) -> Any:
    import numpy

    kind, shape, content = head
    return numpy.frombuffer(bytes.fromhex(content), numpy.dtype(kind)).reshape(shape)


FILLERS: dict[str, Callable[[Any, list[Any], list[Any]], None]] = {
    "l": _fill_list,
    **dict.fromkeys(("d", "ordered", "counter"), _fill_mapping),
    "default": _fill_default,
    "set": _fill_set,
    "deque": _fill_deque,
    "userdict": _fill_userdict,
    "userlist": _fill_userlist,
    **dict.fromkeys(("namespace", "object"), _fill_object),
    "bytearray": _fill_bytearray,
    "array": _fill_array,
    **dict.fromkeys(("text", "bytes"), _fill_stream),
    "numpy": _fill_numpy,
}


def _named_type(name: str, fields: tuple[str, ...]) -> Any:
    found = _NAMED.get((name, fields))
    if found is None:
        found = _NAMED[name, fields] = collections.namedtuple(name, fields)  # rejects invalid names
    return found


_NAMED: dict[tuple[str, tuple[str, ...]], Any] = {}


def _clock(make: Any) -> Callable[[list[Any], list[Any]], Any]:
    def read(head: list[Any], children: list[Any]) -> Any:
        *numbers, fold = head[1:]
        zone = None if children[0] is None else datetime.timezone(children[0])
        return make(*numbers, tzinfo=zone, fold=fold)

    return read


READERS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "i": lambda h, c: int(h[1], 16),
    "s": lambda h, c: bytes.fromhex(h[1]).decode("utf-8", "surrogatepass"),
    "c": lambda h, c: complex(h[1], h[2]),
    "b": lambda h, c: bytes.fromhex(h[1]),
    "...": lambda h, c: ...,
    "not implemented": lambda h, c: NotImplemented,
    "t": lambda h, c: tuple(c),
    "f": lambda h, c: frozenset(c),
    "range": lambda h, c: range(*c),
    "slice": lambda h, c: slice(*c),
    "keys": lambda h, c: dict.fromkeys(c).keys(),
    "items": lambda h, c: dict(_keyed(c)).items(),
    "decimal": lambda h, c: decimal.Decimal(h[1]),
    "fraction": lambda h, c: fractions.Fraction(*c),
    "span": lambda h, c: datetime.timedelta(*h[1:]),
    "date": lambda h, c: datetime.date(*h[1:]),
    "time": _clock(datetime.time),
    "datetime": _clock(datetime.datetime),
    "zone": lambda h, c: datetime.timezone(c[0]),
    "uuid": lambda h, c: uuid.UUID(hex=h[1]),
    "view": lambda h, c: memoryview(bytes.fromhex(h[1])),
    "proxy": lambda h, c: types.MappingProxyType(dict(_keyed(c))),
    "chain": lambda h, c: collections.ChainMap(dict(_keyed(c))),
    "pattern": lambda h, c: re.compile(c[0], h[1]),
    "path": lambda h, c: pathlib.PosixPath(c[0]),
    "pure path": lambda h, c: pathlib.PurePosixPath(c[0]),
    "alias": lambda h, c: types.GenericAlias(*c),
    "union": lambda h, c: functools.reduce(operator.or_, c),
    "typing": lambda h, c: _typing_form(h[1], tuple(c)),
    "userstring": lambda h, c: UserString(c[0]),
    "numpy scalar": lambda h, c: _numpy_array(h[1:])[()],
    "same": lambda h, c: c[0],
    "named": lambda h, c: _named_type(h[1], tuple(h[2]))(*c),
    "type": lambda h, c: TYPES[h[1]],
}  # fmt: skip
