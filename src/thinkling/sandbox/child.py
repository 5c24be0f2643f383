"""The process that runs one program. It confines itself, runs the program, and writes reports to a pipe.

All reports after the byte READY are untrusted, because the program shares the process's memory and can write to the
pipe.
"""

from __future__ import annotations

import atexit
import errno
import gc
import json
import linecache
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from thinkling.sandbox import cells, judged, kernel, tester
from thinkling.sandbox.judged import LINK
from thinkling.sandbox.protocol import FAILED, READY, Program, read_program

RESULTS = 3
"""File descriptor of the report pipe."""
FILE_NAME = "<program>"
LONGEST_TRACEBACK = 50
"""Maximum number of innermost frames shown. Infinite recursion creates thousands of frames."""
_UNPROTECTED = 70  # exit status of a child that could not confine itself, or whose own code failed


@dataclass(frozen=True)
class Cell:
    """The data that all children of one fork-server share."""

    ruleset: int
    abi: int
    calls: kernel.InstallableFilter
    identity: tuple[int, int] | None
    """User and group to switch to. None if the child keeps the server's user and group."""
    server: int
    first_closed: int
    """File descriptors from this number on are closed before the program starts."""


def open_streams() -> None:
    """Create sys.stdin, stdout and stderr before the fork. The streams are opened on pipes, because a stream caches
    whether its file is seekable. The child replaces the underlying descriptors."""
    log = os.dup(2)
    read, write = os.pipe()
    for target, end in enumerate((read, write, write)):
        os.dup2(end, target)
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.dup2(log, 2)
    for descriptor in (log, read, write):
        os.close(descriptor)
    sys.argv = [FILE_NAME]


def live(
    cell: Cell, program: int, rlimits: Sequence[tuple[int, tuple[int, int]]], ends: Sequence[int], link: int | None
) -> NoReturn:
    """Run a child from the fork to its exit.

    `program`: descriptor of the program file; `rlimits`: pairs of a resource and its (soft, hard) limits; `ends`:
    descriptors that become stdin, stdout, stderr and the report pipe; `link`: this child's end of the socket between a
    program and its tester."""
    status = _UNPROTECTED
    try:
        for target, end in enumerate(ends):
            os.dup2(end, target)
        if link is None:
            os.close(LINK)
        else:
            os.dup2(link, LINK)
        try:
            task = read_program(program)
            _lock_in(cell, task.files, rlimits)
        except BaseException as error:
            os.write(RESULTS, FAILED + f"{type(error).__name__}: {error}".encode()[:1000])
        else:
            os.write(RESULTS, READY)
            status = _WAYS[task.way](task)
    finally:
        os._exit(status)


def _lock_in(cell: Cell, files: Mapping[str, bytes], rlimits: Sequence[tuple[int, tuple[int, int]]]) -> None:
    os.setsid()
    os.closerange(cell.first_closed, LINK)
    os.closerange(LINK + 1, cell.ruleset)
    os.closerange(cell.ruleset + 1, 1 << 20)
    for what, values in rlimits:
        resource.setrlimit(what, values)
    if cell.identity is not None:
        user, group = cell.identity
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    for name, content in files.items():
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.die_with_parent()  # after the change of user, which resets this setting
    if os.getppid() != cell.server:
        raise ProcessLookupError("the fork-server is gone")
    kernel.restrict_files(cell.ruleset, cell.abi)
    os.close(cell.ruleset)
    cell.calls.install()


def _serve(program: Program) -> int:
    return cells.serve(partial(_report, program.nonce), _name)


def _test(program: Program) -> int:
    gc.enable()
    tester.run(program.code, partial(_report, program.nonce))
    return 0


def _be_judged(program: Program) -> int:
    """Run a program for its tester and return the exit status, which is 0 unless the program itself failed. The
    program's exit handlers are not run."""
    gc.enable()
    statuses = [0]

    def failed(error: BaseException) -> None:
        statuses.append(_status(error, program.code))
        _report(program.nonce, kind="end", error=_name(error))

    judged.Judged(program.code, FILE_NAME, failed).serve()
    judged.flush()
    return statuses[-1]


def _run(program: Program) -> int:
    """Run a program and return the exit status by the rules of the Python interpreter."""
    gc.enable()
    error = _execute(program)
    status = 0 if error is None else _status(error, program.code)
    endings = [atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush]
    if threading.active_count() > 1:
        endings.insert(0, threading._shutdown)  # type: ignore[attr-defined]
    for finish in endings:
        try:
            finish()
        except BaseException as late:
            error, status = error or late, status or 1
    if error is not None:
        _report(program.nonce, kind="end", error=_name(error))
    return status


def _execute(program: Program) -> BaseException | None:
    """Run the program and return the exception that it raised, if any."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(program.code, FILE_NAME, "exec", dont_inherit=True), module.__dict__)  # why this process exists
    except BaseException as error:
        return error
    return None


def _status(error: BaseException, code: str) -> int:
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    try:
        linecache.cache[FILE_NAME] = (len(code), None, code.splitlines(True), FILE_NAME)
        own = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(type(error), error, own, limit=-LONGEST_TRACEBACK)
    except BaseException:  # a hostile object's repr failed, or memory is exhausted
        os.write(2, f"{_name(error)}\n".encode())
    return 1


def _name(error: BaseException) -> str:
    too_large = isinstance(error, OSError) and error.errno == errno.EFBIG
    return "EFBIG" if too_large else type(error).__name__


def _report(nonce: str, **found: Any) -> None:
    line = f"{nonce} {json.dumps(found)}\n".encode()
    while line:
        line = line[os.write(RESULTS, line) :]


_WAYS: dict[str, Callable[[Program], int]] = {
    "main": _run,
    "session": _serve,
    "judged": _be_judged,
    "tester": _test,
}
