"""The process of a program that is being tested. The process runs the program and then serves requests of the tester.

This code shares memory with the program, which can therefore forge every reply. However, a reply can only contain
values, not code.
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
    """Runs a program and serves its tester. `failed`: called with an exception that the program raised while it was
    loaded."""

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
        """Serve requests until the tester has ended."""
        try:
            self._remote.peer.serve()
        except Gone:
            return

    def _answer(self, what: str, values: list[Any]) -> Any:
        return self._answers[what](*values)

    def _load(self, prelude: str, classes: Sequence[str]) -> None:
        """Run the definitions of the set-up code that do not need the program, and then the program."""
        module = types.ModuleType("program")
        sys.modules["program"] = module
        self._namespace = module.__dict__
        for statement in ast.parse(prelude).body:
            try:
                code = compile(ast.Module([statement], []), "<setup>", "exec", dont_inherit=True)
                exec(code, self._namespace)  # the purpose of this process
            except Exception:  # the definition needs the program or a missing module, which the tests will report
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
    """Call a function with standard streams, `input` or `print` replaced by those of the tests. Returns the printed
    text, the unread input, whether the function raised an exception, and its value or exception."""
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
    """Register classes so that their objects are transferred as copies of their attributes."""
    for name in names:
        kind = namespace.get(name)
        if isinstance(kind, type) and base_of(kind) is None and not issubclass(kind, (BaseException, enum.Enum)):
            remote.classes[name] = kind


def flush() -> None:
    """Flush the program's output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the program may have replaced the stream
            os.write(2, b"")
