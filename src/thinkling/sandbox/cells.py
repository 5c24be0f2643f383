"""The child process of a session, which runs pieces of code in one namespace, like the cells of a notebook.

The value of a trailing expression is printed. An exception ends the piece of code that raised it, but not the session.
"""

from __future__ import annotations

import ast
import gc
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from thinkling.sandbox.protocol import Closed, read_call

LONGEST_VALUE = 1 << 16
"""Maximum number of characters printed of the value of a trailing expression."""
LONGEST_TRACEBACK = 20
"""Maximum number of innermost frames shown."""


def serve(report: Callable[..., None], name: Callable[[BaseException], str]) -> int:
    """Run pieces of code until there are no more. `report`: writes a report; `name`: returns the name of an
    exception."""
    calls = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # the program's standard input is empty
    os.close(null)
    gc.enable()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    streams = (sys.stdout, sys.stderr)
    number = 0
    while True:
        try:
            code = read_call(calls).decode("utf-8", "surrogatepass")
        except Closed:
            return 0
        number += 1
        sys.stdout, sys.stderr = streams  # an earlier call may have replaced the streams
        error = _run(code, f"<call {number}>", module.__dict__)
        for stream in streams:
            try:
                stream.flush()
            except BaseException as late:
                error = error or late
        report(kind="call", at=number, error="" if error is None else name(error))
        error = None


def _run(code: str, file_name: str, namespace: dict[str, Any]) -> BaseException | None:
    linecache.cache[file_name] = (len(code), None, code.splitlines(True), file_name)
    try:
        tree = ast.parse(code, file_name)
        last = tree.body[-1] if tree.body else None
        value = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
        if value is not None:
            del tree.body[-1]
        exec(compile(tree, file_name, "exec", dont_inherit=True), namespace)  # the purpose of this process
        if value is not None:
            found = eval(compile(value, file_name, "eval", dont_inherit=True), namespace)
            if found is not None:
                print(repr(found)[:LONGEST_VALUE])
    except SystemExit as end:
        if not end.code:
            return None
        _show(end, file_name)
        return end
    except BaseException as error:
        _show(error, file_name)
        return error
    return None


def _show(error: BaseException, file_name: str) -> None:
    """Print the traceback without the frames of this module. For a syntax error, no frames remain."""
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != file_name:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames, limit=-LONGEST_TRACEBACK)
    except BaseException:  # a hostile object's repr failed, or memory is exhausted
        os.write(2, f"{type(error).__name__}\n".encode())
