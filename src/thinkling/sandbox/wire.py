"""Encoding of values as inert text, for two processes that do not trust each other. The encoding uses no pickle and no
code, and neither side can choose a class that the other side instantiates.

A message is a table of nodes. A node is a JSON scalar, or a list of a tag, the tag's data, and the positions of the
nodes to which it refers. Nodes are therefore not nested, and shared references and cycles are preserved. Mutable values
(lists, dicts, sets …) have a number known to both sides, so that the receiver updates the object that it already has.
All other objects are sent as handles: the owner keeps the object, and the other side requests operations on it. An
object of a subclass of a plain type is never sent with its class, but at most as a value of the plain type.
"""

from __future__ import annotations

import enum
import sys
from abc import ABC, abstractmethod
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from thinkling.sandbox.kinds import (
    ATOMS,
    BASES,
    FILLERS,
    FROZEN,
    READERS,
    SHELLS,
    STREAMS,
    TYPE_NAMES,
    WRITERS,
    Malformed,
    Parts,
    attributes,
    base_of,
    named_fields,
    numpy_parts,
    odd_text,
    own_names,
    pairs,
    tag_of,
    typing_parts,
)

Node = Any
"""A JSON scalar or a list."""
_SMALL = 1 << 63
_PROBE: dict[int, Any] = {0: []}
_NO_REFERENCES = sys.getrefcount(_PROBE[0])
"""Reference count, as returned by getrefcount, of an object to which only a dict refers."""


class Foreign(ABC):
    """Interface for objects that are not plain values. Each side derives a class from it."""

    classes: dict[str, type]
    """Classes of the tests' set-up code, which exist on both sides under the same name. Their objects are sent as
    attributes."""

    def __init__(self) -> None:
        self.classes = {}

    @abstractmethod
    def describe(self, value: Any) -> Parts:
        """Return the parts of a handle: either for an object of this side, or for an object that is returned to the
        other side."""

    @abstractmethod
    def resolve(self, head: list[Any], children: list[Any]) -> Any:
        """Return the object for which `describe` of the other side returned these parts. Raises Malformed if the parts
        do not describe an object."""


class Codec:
    """Encodes and decodes the values of one side, and records the mutable objects that both sides share. `odd`: 1 on
    one side and 0 on the other, so that the two sides number new objects differently."""

    def __init__(self, odd: int, foreign: Foreign) -> None:
        self._foreign = foreign
        self._next = odd
        self._shared: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}

    def encode(self, values: Iterable[Any]) -> tuple[list[Node], list[int]]:
        """Return the nodes, which include changes to shared objects, and the position of each value among the nodes."""
        nodes: list[Node] = []
        places: dict[int, int] = {}
        alive: list[Any] = []
        wanted = list(values)
        found = [self._place(value, nodes, places, alive) for value in wanted]
        for value in list(self._shared.values()):
            self._place(value, nodes, places, alive)
        return nodes, found

    def _place(self, root: Any, nodes: list[Node], places: dict[int, int], alive: list[Any]) -> int:
        """Add the nodes of a value and return the value's position. The traversal is depth-first (without recursion),
        so that immutable values follow their contents."""
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
        if kind in ATOMS or (kind is int and -_SMALL < value < _SMALL) or (kind is str and not odd_text(value)):
            nodes.append(value)
            return len(nodes) - 1
        return places.get(id(value))

    def _parts(self, value: Any) -> Parts:
        kind = type(value)
        writer = WRITERS.get(kind)
        if writer is not None and not (kind in STREAMS and value.closed):
            return writer(value)
        if isinstance(value, type) and value in TYPE_NAMES:
            return Parts(["type", TYPE_NAMES[value]], ())
        if self._foreign.classes.get(kind.__name__) is kind:
            return Parts(["object", kind.__name__], pairs(attributes(value).items()), True)
        for special in (numpy_parts, typing_parts):
            if (parts := special(value)) is not None:
                return parts
        fields = named_fields(kind)
        if fields is not None:
            return Parts(["named", kind.__name__, list(fields)], BASES[tuple](value))
        base = base_of(kind)
        if base in FROZEN and not isinstance(value, enum.Enum) and not own_names(kind):
            return Parts(["same"], (BASES[base](value),))
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
        """Remove shared objects from the record."""
        for number in numbers:
            value = self._shared.pop(number, None)
            if value is not None:
                self._numbers.pop(id(value), None)

    def release(self) -> list[int]:
        """Remove the shared objects to which nothing else on this side refers, and return their numbers. Callers must
        drop their own references first, because the decision is based on reference counts."""
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
        """Return the values. Shared objects that this side already has are updated; other values are created. Raises
        Malformed."""
        try:
            values: list[Any] = []
            later: list[tuple[Any, list[Any], list[int]]] = []
            for node in nodes:
                if type(node) is not list:
                    values.append(node)
                    continue
                *head, refs = node
                if head[0] in FILLERS:
                    shell = self._shell(head)
                    later.append((shell, head, refs))
                    values.append(shell)
                else:
                    values.append(self._read(head, [values[ref] for ref in refs]))
            # Objects with attributes are filled before sets and dicts, because sets and dicts may hash them.
            for kind in (True, False):
                for shell, head, refs in later:
                    if (head[0] == "object") is kind:
                        FILLERS[head[0]](shell, head, [values[ref] for ref in refs])
            return [values[place] for place in places]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError) as error:
            raise Malformed(f"{type(error).__name__}: {error}") from None

    def _shell(self, head: list[Any]) -> Any:
        tag, number = head[0], head[1]
        if type(number) is not int:
            raise Malformed("a number is missing")
        known = self._shared.get(number)
        if known is not None:
            if tag_of(known, self._foreign.classes) != tag:
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
            shell = SHELLS[tag]()
        self._keep(number, shell)
        return shell

    def _read(self, head: list[Any], children: list[Any]) -> Any:
        reader = READERS.get(head[0])
        return reader(head, children) if reader is not None else self._foreign.resolve(head, children)
