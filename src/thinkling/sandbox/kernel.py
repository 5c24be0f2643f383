"""System calls that Python does not wrap, called through ctypes: Landlock, seccomp, prctl and capabilities.

For Landlock, see linux/landlock.h and Documentation/userspace-api/landlock.rst in the kernel sources.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Any

from thinkling.sandbox import syscalls

MINIMUM_ABI = 4
"""First Landlock ABI version with rules for TCP (Linux 6.7)."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2
OWN_PID = -1

# LANDLOCK_ACCESS_FS_*: execute, write file, read file, read folder, …, truncate (ABI 3), ioctl on devices (ABI 5).
_WRITE_FILE, READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_FILE, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 5, 8, 14))
READ = READ_FILE | _READ_DIR
DEVICE = READ_FILE | _WRITE_FILE
# Children cannot create folders, links, sockets, fifos or devices, so that cleaning up never walks a hostile tree.
PRIVATE = READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
_ALL_FILES, _ALL_FILES_5 = (1 << 15) - 1, (1 << 16) - 1
_ALL_TCP = 0b11  # bind, connect
_ALL_SCOPES = 0b11  # abstract UNIX sockets, signals (ABI 6)
_QUIET = 1  # LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF (ABI 7): no audit log of denied attempts

_libc = ctypes.CDLL(None, use_errno=True)
_LONG, _INT, _UNSIGNED, _POINTER = ctypes.c_long, ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p


def _bind(name: str, *types: Any, library: ctypes.CDLL = _libc) -> Any:
    """Return a function of the C library with its argument types. Each kind of call has its own binding, which accepts
    plain numbers: creating objects in a child would cost more than the calls, because every page touched in a child is
    copied."""
    function = library[name]
    function.argtypes, function.restype = types, _LONG if name == "syscall" else _INT
    return function


_fork = _bind("fork", library=ctypes.PyDLL(None, use_errno=True))  # PyDLL does not release the GIL
_prctl = _bind("prctl", _INT, _UNSIGNED, _UNSIGNED, _UNSIGNED, _UNSIGNED)
_set_filter = _bind("prctl", _INT, _UNSIGNED, _POINTER, _UNSIGNED, _UNSIGNED)
_capset = _bind("capset", ctypes.c_char_p, ctypes.c_char_p)
_create_ruleset = _bind("syscall", _LONG, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32)
_add_rule = _bind("syscall", _LONG, _INT, _INT, ctypes.c_char_p, ctypes.c_uint32)
_restrict_self = _bind("syscall", _LONG, _INT, ctypes.c_uint32)
_NO_CAPABILITIES = (struct.pack("<Ii", 0x20080522, 0), bytes(24))  # _LINUX_CAPABILITY_VERSION_3


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def fork() -> int:
    """Call fork(2) without the hooks of os.fork. The hooks reset locks and threads after a multi-threaded fork, reseed
    `random`, and touch a hundred pages, which takes a seventh of the time of a run. They are not needed because the
    fork-server has one thread. Raises OSError like os.fork.
    """
    return _check(_fork(), "fork")


def landlock_abi() -> int:
    """Return the ABI version of Landlock. Raises OSError: ENOSYS if the kernel lacks Landlock, EOPNOTSUPP if it was
    disabled at boot."""
    return _check(_create_ruleset(_CREATE_RULESET, None, 0, 1), "Landlock")


def missing_feature() -> str | None:
    """Return the feature that this machine lacks for the sandbox and the cure, or None if nothing is missing."""
    system = os.uname()
    if system.sysname != "Linux":
        return f"the sandbox needs Linux, but this machine runs {system.sysname}; run thinkling in a container"
    if system.machine not in syscalls.AUDIT_ARCHITECTURE:
        return f"the sandbox supports {' and '.join(syscalls.AUDIT_ARCHITECTURE)}, but this machine is {system.machine}"
    try:
        abi = landlock_abi()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "no Landlock: it is not enabled in this kernel; add landlock to its lsm= parameter"
        return (
            f"no Landlock ({os.strerror(error.errno or 0)}): the kernel is older than 5.13, was built without "
            "CONFIG_SECURITY_LANDLOCK, or the container's seccomp profile forbids it; use a newer kernel or profile"
        )
    if abi < MINIMUM_ABI:
        return (
            f"the kernel has Landlock ABI {abi}, which lacks network rules; use Linux 6.7 or newer (ABI {MINIMUM_ABI})"
        )
    # A filter at address 0 results in EFAULT if filters are supported.
    if _set_filter(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0) == 0 or ctypes.get_errno() != errno.EFAULT:
        return "no seccomp filters: the kernel was built without CONFIG_SECCOMP_FILTER, or the container forbids them"
    return None


def create_ruleset(abi: int) -> int:
    """Return a descriptor of a ruleset that handles all accesses supported by the ABI. Raises OSError if Landlock
    rejects it."""
    files = _ALL_FILES_5 if abi >= 5 else _ALL_FILES
    attributes = struct.pack("<QQ", files, _ALL_TCP) + (struct.pack("<Q", _ALL_SCOPES) if abi >= 6 else b"")
    return _check(_create_ruleset(_CREATE_RULESET, attributes, len(attributes), 0), "landlock_create_ruleset")


def allow_path(ruleset: int, path: str, access: int) -> None:
    """Allow access to a path and everything beneath it. Raises OSError if the path does not exist."""
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", access, beneath)
        _check(_add_rule(_ADD_RULE, ruleset, 1, rule, 0), "landlock_add_rule")
    finally:
        os.close(beneath)


def forbid_new_privileges() -> None:
    """Set PR_SET_NO_NEW_PRIVS, which Landlock and seccomp require."""
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def die_with_parent() -> None:
    """Make the kernel send SIGKILL to this process when its parent ends."""
    _check(_prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


def drop_capabilities() -> None:
    """Empty the process's effective, permitted and inheritable capability sets. This is needed in user namespaces in
    which the child keeps its user; a change from root to a different user drops capabilities anyway."""
    _check(_capset(*_NO_CAPABILITIES), "capset")


def restrict_files(ruleset: int, abi: int) -> None:
    """Enforce a Landlock ruleset on this thread and its future children."""
    _check(_restrict_self(_RESTRICT_SELF, ruleset, _QUIET if abi >= 7 else 0), "landlock_restrict_self")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class InstallableFilter:
    """A seccomp filter in the kernel's format, built before the fork."""

    def __init__(self, rows: Sequence[tuple[int, int, int, int]]) -> None:
        """`rows`: code, jump if true, jump if false, constant. The constant OWN_PID is replaced by the id of the
        process."""
        packed = b"".join(struct.pack("<HBBI", code, yes, no, max(constant, 0)) for code, yes, no, constant in rows)
        self._words = (ctypes.c_uint32 * (len(packed) // 4)).from_buffer_copy(packed)
        self._own = [2 * at + 1 for at, row in enumerate(rows) if row[3] == OWN_PID]
        self._program = _Program(len(rows), ctypes.addressof(self._words))
        self._address = ctypes.addressof(self._program)

    def install(self) -> None:
        """Install the filter irrevocably on this thread and its future children."""
        pid = os.getpid()
        for at in self._own:
            self._words[at] = pid
        _check(_set_filter(_PR_SET_SECCOMP, _MODE_FILTER, self._address, 0, 0), "seccomp")
