"""Values as inert text, for two processes that do not trust each other: no pickle, no code, no class that one side
could choose for the other.

A message is a table of nodes. A node is a JSON scalar, or a list of a tag and what the tag needs, where a number refers
to another node: shared references and cycles are kept, and nothing is nested. What can change (lists, dicts, sets …)
has a number that both sides know, so that its new contents are put into the object that the other side already has.
What is no plain value is a handle: the owner keeps the object, and the other side asks for what it does.
A value of a subclass is never sent as its class: at most as its base's value.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import enum
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Node = Any
"""A JSON scalar or a list."""
_SMALL = 1 << 63
_ATOMS = (type(None), bool, float)
_PROBE: dict[int, Any] = {0: []}
_NO_REFERENCES = sys.getrefcount(_PROBE[0])
"""What is counted of an object that only a dict refers to."""


class Malformed(Exception):
    """A message that no honest side sends."""


class Parts(NamedTuple):
    """A value taken apart: a tag with what the tag needs, and the values that it refers to."""

    head: list[Any]
    children: Sequence[Any]
    changes: bool = False
    """Whether it is an object with contents that can change."""


def _pairs(value: Any) -> list[Any]:
    return [part for pair in value for part in pair]


def _odd_text(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON would join two halves of a character
        return True
    return False


def _zone(value: datetime.datetime | datetime.time) -> datetime.timedelta | None:
    return value.utcoffset()


_DATE = ("year", "month", "day")
_TIME = ("hour", "minute", "second", "microsecond", "fold")

_WRITERS: dict[type, Callable[[Any], Parts]] = {
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
    type({}.items()): lambda v: Parts(["items"], _pairs(v)),
    decimal.Decimal: lambda v: Parts(["decimal", str(v)], ()),
    fractions.Fraction: lambda v: Parts(["fraction"], (v.numerator, v.denominator)),
    datetime.timedelta: lambda v: Parts(["span", v.days, v.seconds, v.microseconds], ()),
    datetime.date: lambda v: Parts(["date", *(getattr(v, name) for name in _DATE)], ()),
    datetime.time: lambda v: Parts(["time", *(getattr(v, name) for name in _TIME)], (_zone(v),)),
    datetime.datetime: lambda v: Parts(["datetime", *(getattr(v, name) for name in _DATE + _TIME)], (_zone(v),)),
    datetime.timezone: lambda v: Parts(["zone"], (v.utcoffset(None),)),
    uuid.UUID: lambda v: Parts(["uuid", v.hex], ()),
    memoryview: lambda v: Parts(["view", v.tobytes().hex()], ()),
    types.MappingProxyType: lambda v: Parts(["proxy"], _pairs(v.items())),
    collections.ChainMap: lambda v: Parts(["chain"], _pairs(v.items())),
    re.Pattern: lambda v: Parts(["pattern", v.flags], (v.pattern,)),
    pathlib.PosixPath: lambda v: Parts(["path"], (str(v),)),
    pathlib.PurePosixPath: lambda v: Parts(["pure path"], (str(v),)),
    types.GenericAlias: lambda v: Parts(["alias"], (v.__origin__, v.__args__)),
    types.UnionType: lambda v: Parts(["union"], v.__args__),
    list: lambda v: Parts(["l"], v, True),
    dict: lambda v: Parts(["d"], _pairs(v.items()), True),
    set: lambda v: Parts(["set"], tuple(v), True),
    deque: lambda v: Parts(["deque", v.maxlen], tuple(v), True),
    OrderedDict: lambda v: Parts(["ordered"], _pairs(v.items()), True),
    Counter: lambda v: Parts(["counter"], _pairs(v.items()), True),
    defaultdict: lambda v: Parts(["default"], [v.default_factory, *_pairs(v.items())], True),
    UserDict: lambda v: Parts(["userdict"], _pairs(v.data.items()), True),
    UserList: lambda v: Parts(["userlist"], tuple(v.data), True),
    UserString: lambda v: Parts(["userstring"], (v.data,)),
    types.SimpleNamespace: lambda v: Parts(["namespace"], _pairs(vars(v).items()), True),
    bytearray: lambda v: Parts(["bytearray", v.hex()], (), True),
    array: lambda v: Parts(["array", v.typecode, v.tobytes().hex()], (), True),
    io.StringIO: lambda v: Parts(["text", v.tell()], (v.getvalue(),), True),
    io.BytesIO: lambda v: Parts(["bytes", v.tell(), v.getvalue().hex()], (), True),
}  # fmt: skip

_ERRORS = [one for one in vars(builtins).values() if isinstance(one, type) and issubclass(one, BaseException)]
_OTHERS = (object, type, property, types.FunctionType, types.MethodType)
_ALL: tuple[type, ...] = (*_WRITERS, *_ATOMS, *_OTHERS, *_ERRORS)
TYPES: dict[str, type] = {kind.__name__: kind for kind in _ALL}
"""Types that both sides have, by name."""
_TYPE_NAMES = {kind: name for name, kind in TYPES.items()}


_BASES: dict[type, Callable[[Any], Any]] = {
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
"""Of subclasses: the value that they are as their base."""
_STREAMS = (io.StringIO, io.BytesIO)
_FROZEN = (int, float, complex, str, bytes, tuple, frozenset)


def base_of(kind: type) -> type | None:
    """The plain type that a class derives from."""
    return next((base for base in kind.__mro__[1:] if base in _BASES), None)


def base_value(value: Any) -> Any:
    """A value of a subclass as its base's. TypeError: it has no plain base."""
    base = base_of(type(value))
    if base is None:
        raise TypeError(f"{type(value).__name__} has no plain base")
    return _BASES[base](value)


def named_fields(kind: type) -> tuple[str, ...] | None:
    """Of a class made by collections.namedtuple, or a NamedTuple with nothing of its own."""
    fields = kind.__dict__.get("_fields")
    if not issubclass(kind, tuple) or not isinstance(fields, tuple) or kind.__mro__[1] is not tuple:
        return None
    return None if _own_names(kind) - set(fields) - {"count", "index"} else fields


def _own_names(kind: type) -> set[str]:
    """Public names that a class adds to its plain base."""
    base = base_of(kind)
    found: set[str] = set()
    for one in kind.__mro__[: kind.__mro__.index(base) if base else 1]:
        found |= {name for name in vars(one) if not name.startswith("_")}
    return found


def _numpy_parts(value: Any) -> Parts | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value).__module__ != "numpy":
        return None
    if not isinstance(value, numpy.ndarray | numpy.generic) or numpy.asarray(value).dtype.kind not in "biufcSUmM":
        return None
    found = numpy.ascontiguousarray(value) if value.ndim else numpy.asarray(value)
    whole = isinstance(value, numpy.ndarray)
    head = ["numpy" if whole else "numpy scalar", found.dtype.str, list(value.shape), found.tobytes().hex()]
    return Parts(head, (), whole)


def _typing_parts(value: Any) -> Parts | None:
    """`List[int]`, `Optional[str]`, `Any` and the like."""
    if type(value).__module__ != "typing" and value is not typing.Any:
        return None
    name = getattr(value, "_name", None) or getattr(value, "__name__", None)
    name = "Union" if typing.get_origin(value) is typing.Union else name
    arguments = [tuple(one) if isinstance(one, list) else one for one in typing.get_args(value)]  # those of Callable
    return Parts(["typing", name], arguments) if name in typing.__all__ else None


def _typing_form(name: str, arguments: tuple[Any, ...]) -> Any:
    if name not in typing.__all__:
        raise Malformed("no form of typing")
    if name == "Callable" and arguments and isinstance(arguments[0], tuple):
        arguments = (list(arguments[0]), *arguments[1:])
    return getattr(typing, name)[arguments] if arguments else getattr(typing, name)


class Foreign:
    """What one side makes of objects that are no plain values. Sides derive from it."""

    classes: dict[str, type]
    """Those that both sides have by the same name, from the tests' set-up code; their objects go by structure."""

    def __init__(self) -> None:
        self.classes = {}

    def describe(self, value: Any) -> Parts:
        """A handle of an own object, or the other side's own object on its way back."""
        raise NotImplementedError

    def resolve(self, head: list[Any], children: list[Any]) -> Any:
        """Inverse of the other side's describe. Malformed: no such thing."""
        raise NotImplementedError


class Codec:
    """One side's memory of what it shares with the other. `odd`: 1 on one side, 0 on the other."""

    def __init__(self, odd: int, foreign: Foreign) -> None:
        self._foreign = foreign
        self._next = odd
        self._shared: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}

    def encode(self, values: Iterable[Any]) -> tuple[list[Node], list[int]]:
        """Nodes, and where the values are among them. What changed of shared objects goes along."""
        nodes: list[Node] = []
        places: dict[int, int] = {}
        alive: list[Any] = []
        wanted = list(values)
        found = [self._place(value, nodes, places, alive) for value in wanted]
        for value in list(self._shared.values()):
            self._place(value, nodes, places, alive)
        return nodes, found

    def _place(self, root: Any, nodes: list[Node], places: dict[int, int], alive: list[Any]) -> int:
        """Depth first without recursion: what cannot change comes after all that it holds."""
        stack: list[tuple[Any, Parts, Iterator[Any], list[int], int]] = []
        answer = -1
        value, fresh = root, True
        while True:
            if fresh:
                place = self._simple(value, nodes, places)
                if place is None:
                    parts = self._parts(value)
                    alive.append(value)
                    place = -1
                    if parts.changes:
                        place = places[id(value)] = len(nodes)
                        nodes.append(None)
                        parts.head.insert(1, self._number(value))
                    stack.append((value, parts, iter(parts.children), [], place))
                else:
                    answer = place
                    if not stack:
                        return answer
                    stack[-1][3].append(answer)
            owner, parts, rest, refs, place = stack[-1]
            try:
                value, fresh = next(rest), True
                continue
            except StopIteration:
                stack.pop()
            node = [*parts.head, refs]
            if parts.changes:
                nodes[place] = node
            else:
                place = places[id(owner)] = len(nodes)
                nodes.append(node)
            if not stack:
                return place
            stack[-1][3].append(place)
            fresh = False

    def _simple(self, value: Any, nodes: list[Node], places: dict[int, int]) -> int | None:
        kind = type(value)
        if kind in _ATOMS or (kind is int and -_SMALL < value < _SMALL) or (kind is str and not _odd_text(value)):
            nodes.append(value)
            return len(nodes) - 1
        return places.get(id(value))

    def _parts(self, value: Any) -> Parts:
        kind = type(value)
        writer = _WRITERS.get(kind)
        if writer is not None and not (kind in _STREAMS and value.closed):
            return writer(value)
        if isinstance(value, type) and value in _TYPE_NAMES:
            return Parts(["type", _TYPE_NAMES[value]], ())
        if self._foreign.classes.get(kind.__name__) is kind:
            return Parts(["object", kind.__name__], _pairs(_attributes(value).items()), True)
        for special in (_numpy_parts, _typing_parts):
            if (parts := special(value)) is not None:
                return parts
        fields = named_fields(kind)
        if fields is not None:
            return Parts(["named", kind.__name__, list(fields)], _BASES[tuple](value))
        base = base_of(kind)
        if base in _FROZEN and not isinstance(value, enum.Enum) and not _own_names(kind):
            return Parts(["same"], (_BASES[base](value),))
        return self._foreign.describe(value)

    def _number(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._next
            self._next += 2
            self._keep(number, value)
        return number

    def _keep(self, number: int, value: Any) -> None:
        self._shared[number] = value
        self._numbers[id(value)] = number

    def drop(self, numbers: Iterable[int]) -> None:
        """Forgets shared objects."""
        for number in numbers:
            value = self._shared.pop(number, None)
            if value is not None:
                self._numbers.pop(id(value), None)

    def release(self) -> list[int]:
        """Forgets the shared objects that nothing else here refers to, and says which. What a caller still holds must
        have been let go before: the count of references decides."""
        if not self._shared:
            return []
        inner: Counter[int] = Counter()
        children = {number: self._parts(value).children for number, value in self._shared.items()}
        inside = {number: [id(one) for one in held] for number, held in children.items()}
        children.clear()
        for ids in inside.values():
            inner.update(ids)
        shared = self._shared
        used = [n for n in shared if sys.getrefcount(shared[n]) > _NO_REFERENCES + inner[id(shared[n])]]
        kept = set(used)
        while used:
            for one in inside[used.pop()]:
                number = self._numbers.get(one)
                if number is not None and number not in kept:
                    kept.add(number)
                    used.append(number)
        gone = [number for number in shared if number not in kept]
        self.drop(gone)
        return gone

    def decode(self, nodes: list[Node], places: list[int]) -> list[Any]:
        """The values, built anew or, where both sides have them, brought up to date. Malformed."""
        try:
            values: list[Any] = []
            later: list[tuple[Any, list[Any], list[int]]] = []
            for node in nodes:
                if type(node) is not list:
                    values.append(node)
                    continue
                *head, refs = node
                if head[0] in _FILLERS:
                    shell = self._shell(head)
                    later.append((shell, head, refs))
                    values.append(shell)
                else:
                    values.append(self._read(head, [values[ref] for ref in refs]))
            for kind in (True, False):  # what is hashed may be an object, which has to be there first
                for shell, head, refs in later:
                    if (head[0] == "object") is kind:
                        _FILLERS[head[0]](shell, head, [values[ref] for ref in refs])
            return [values[place] for place in places]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError) as error:
            raise Malformed(f"{type(error).__name__}: {error}") from None

    def _shell(self, head: list[Any]) -> Any:
        tag, number = head[0], head[1]
        if type(number) is not int:
            raise Malformed("a number is missing")
        known = self._shared.get(number)
        if known is not None:
            if _tag(known, self._foreign.classes) != tag:
                raise Malformed("a shared object changes its type")
            return known
        if tag == "object":
            shell = object.__new__(self._foreign.classes[head[2]])
        elif tag == "numpy":
            import numpy

            shell = numpy.empty(head[3], numpy.dtype(head[2]))
        elif tag == "array":
            shell = array(head[2])
        elif tag == "deque":
            shell = deque(maxlen=head[2])
        else:
            shell = _SHELLS[tag]()
        self._keep(number, shell)
        return shell

    def _read(self, head: list[Any], children: list[Any]) -> Any:
        reader = _READERS.get(head[0])
        return reader(head, children) if reader is not None else self._foreign.resolve(head, children)


def _tag(value: Any, classes: dict[str, type]) -> str:
    kind = type(value)
    if kind in _WRITERS:
        return _TAGS[kind]
    return "object" if classes.get(kind.__name__) is kind else "numpy"


_TAGS = {
    list: "l", dict: "d", set: "set", deque: "deque", OrderedDict: "ordered", Counter: "counter",
    defaultdict: "default", UserDict: "userdict", UserList: "userlist", types.SimpleNamespace: "namespace",
    bytearray: "bytearray", array: "array", io.StringIO: "text", io.BytesIO: "bytes",
}  # fmt: skip
_SHELLS = {tag: kind for kind, tag in _TAGS.items() if kind not in (array, deque)}


def _attributes(value: Any) -> dict[str, Any]:
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
    for name in _attributes(shell).keys() - new.keys():
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


_FILLERS: dict[str, Callable[[Any, list[Any], list[Any]], None]] = {
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
        found = _NAMED[name, fields] = collections.namedtuple(name, fields)  # refuses what is no name
    return found


_NAMED: dict[tuple[str, tuple[str, ...]], Any] = {}


def _clock(make: Any) -> Callable[[list[Any], list[Any]], Any]:
    def read(head: list[Any], children: list[Any]) -> Any:
        *numbers, fold = head[1:]
        zone = None if children[0] is None else datetime.timezone(children[0])
        return make(*numbers, tzinfo=zone, fold=fold)

    return read


_READERS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
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
