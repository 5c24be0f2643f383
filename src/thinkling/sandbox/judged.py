"""The program's process while it is judged: it runs the program, and then serves requests of its tester.

All of this shares memory with the program, which can make it answer anything, but the answers can only be values.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import copy
import enum
import io
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thinkling.sandbox.handles import OPERATIONS, signature_parts
from thinkling.sandbox.kinds import base_of, base_value
from thinkling.sandbox.link import Gone
from thinkling.sandbox.remote import Remote

LINK = 5
"""File descriptor of the socket between a program and its tester."""


class Judged:
    """`failed`: called with what the program itself raised."""

    def __init__(self, code: str, file_name: str, failed: Callable[[BaseException], None]) -> None:
        self._code, self._file_name, self._failed = code, file_name, failed
        self._remote = Remote(LINK, 1, self._answer, strict=False)
        self._namespace: dict[str, Any] = {}
        self._answers: dict[str, Callable[..., Any]] = {
            **OPERATIONS,
            "load": self._load,
            "get": self._get,
            "names": lambda: tuple(name for name in self._namespace if not name.startswith("_")),
            "module": lambda: sys.modules["program"],
            "getattr": getattr,
            "setattr": setattr,
            "delattr": delattr,
            "dir": dir,
            "isinstance": lambda kind, value: isinstance(value, kind),
            "issubclass": lambda kind, value: issubclass(value, kind),
            "base": base_value,
            "copy": copy.copy,
            "deepcopy": copy.deepcopy,
            "signature": signature_parts,
            "captured": _captured,
            "await": lambda coroutine: asyncio.run(coroutine),
        }

    def serve(self) -> None:
        """Serves requests until the tester has ended."""
        try:
            self._remote.peer.serve()
        except Gone:
            return

    def _answer(self, what: str, values: list[Any]) -> Any:
        return self._answers[what](*values)

    def _load(self, prelude: str, classes: Sequence[str]) -> None:
        """Runs the set-up's definitions, as far as they do not need the program, and then the program."""
        module = types.ModuleType("program")
        sys.modules["program"] = module
        self._namespace = module.__dict__
        for statement in ast.parse(prelude).body:
            try:
                code = compile(ast.Module([statement], []), "<setup>", "exec", dont_inherit=True)
                exec(code, self._namespace)  # the purpose of this process
            except Exception:  # it needs the program, or a missing module; the tests will report that
                continue
        try:
            exec(compile(self._code, self._file_name, "exec", dont_inherit=True), self._namespace)
        except BaseException as error:
            self._failed(error)
            raise
        share_classes(self._remote, classes, self._namespace)

    def _get(self, *names: str) -> tuple[Any, ...]:
        found = self._namespace
        return tuple((True, found[name]) if name in found else (False, None) for name in names)


def _captured(
    function: Any, arguments: tuple[Any, ...], named: tuple[tuple[str, Any], ...], replaced: Any, stdin: str | None
) -> tuple[Any, ...]:
    """Calls a function while the tests have replaced standard streams, `input` or `print`. Returns what it printed, the
    rest of its input, whether it raised, and its value or exception."""
    streams, before = (sys.stdin, sys.stdout), {name: getattr(builtins, name) for name, _ in replaced}
    text = io.StringIO()
    sys.stdout = text
    if stdin is not None:
        sys.stdin = io.StringIO(stdin)
    for name, other in replaced:
        setattr(builtins, name, other)
    try:
        raised, value = False, function(*arguments, **dict(named))
    except BaseException as error:
        raised, value = True, error.with_traceback(None)
    finally:
        rest = sys.stdin.read() if stdin is not None else ""
        sys.stdin, sys.stdout = streams
        for name, own in before.items():
            setattr(builtins, name, own)
    return text.getvalue(), rest, raised, value


def share_classes(remote: Remote, names: Sequence[str], namespace: Mapping[str, Any]) -> None:
    """Registers these classes so that their objects are transferred by their attributes."""
    for name in names:
        kind = namespace.get(name)
        if isinstance(kind, type) and base_of(kind) is None and not issubclass(kind, (BaseException, enum.Enum)):
            remote.classes[name] = kind


def flush() -> None:
    """Flushes the program's output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the program may have replaced it
            os.write(2, b"")
