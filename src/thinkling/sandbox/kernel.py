"""The system calls that Python does not wrap, by ctypes: Landlock, seccomp, prctl, capabilities.

Landlock: linux/landlock.h and Documentation/userspace-api/landlock.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from thinkling.sandbox import syscalls

MINIMUM_ABI = 4
"""Landlock's version with rules for TCP (Linux 6.7)."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2

# LANDLOCK_ACCESS_FS_*: execute, write file, read file, read folder, …, truncate (ABI 3), ioctl on devices (ABI 5).
_WRITE_FILE, READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_FILE, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 5, 8, 14))
READ = READ_FILE | _READ_DIR
DEVICE = READ_FILE | _WRITE_FILE
# No folders, links, sockets, fifos or devices: what is left behind can be removed without walking a hostile tree.
PRIVATE = READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
_ALL_FILES, _ALL_FILES_5 = (1 << 15) - 1, (1 << 16) - 1
_ALL_TCP = 0b11  # bind, connect
_ALL_SCOPES = 0b11  # abstract UNIX sockets, signals (ABI 6)
_QUIET = 1  # LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF (ABI 7): what attacks try need not fill the machine's audit log

_libc = ctypes.CDLL(None, use_errno=True)
_fork = ctypes.PyDLL(None, use_errno=True).fork  # PyDLL keeps the interpreter's lock held
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: object) -> int:
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))]
    if _libc.prctl(ctypes.c_int(option), *padded) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def fork() -> int:
    """fork(2) without the hooks of os.fork, which set locks and threads right after a fork of several threads, seed
    `random`, and touch a hundred pages: a seventh of a run's time. The fork-server has one thread. OSError: as os.fork.
    """
    pid = _fork()
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return pid


def landlock_abi() -> int:
    """Landlock's version. OSError: ENOSYS where the kernel lacks it, EOPNOTSUPP where it was left out at boot."""
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def missing_feature() -> str | None:
    """What this machine lacks for the sandbox, with the cure; None: nothing."""
    system = os.uname()
    if system.sysname != "Linux":
        return f"the sandbox needs Linux, and this is {system.sysname}; run thinkling in a container"
    if system.machine not in syscalls.AUDIT_ARCHITECTURE:
        return f"the sandbox knows {' and '.join(syscalls.AUDIT_ARCHITECTURE)}, and this is {system.machine}"
    try:
        abi = landlock_abi()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "no Landlock: it was not enabled when this kernel started; add landlock to its lsm= parameter"
        return (
            f"no Landlock ({error.strerror}): the kernel is older than 5.13 or built without CONFIG_SECURITY_LANDLOCK, "
            "or the container's seccomp profile forbids it; use a newer kernel or another profile"
        )
    if abi < MINIMUM_ABI:
        return f"Landlock ABI {abi}, which has no rules for the network; ABI {MINIMUM_ABI} needs Linux 6.7 or newer"
    # A filter at address 0 gives EFAULT where filters exist.
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0) == 0 or ctypes.get_errno() != errno.EFAULT:
        return "no seccomp filters: the kernel was built without CONFIG_SECCOMP_FILTER, or the container forbids them"
    return None


def create_ruleset(abi: int) -> int:
    """A descriptor of a ruleset that handles all that the ABI knows. OSError: Landlock refused it."""
    files = _ALL_FILES_5 if abi >= 5 else _ALL_FILES
    attributes = struct.pack("<QQ", files, _ALL_TCP) + (struct.pack("<Q", _ALL_SCOPES) if abi >= 6 else b"")
    return _syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))


def allow_path(ruleset: int, path: str, access: int) -> None:
    """Allows access to what lies at and beneath a path. OSError: no such path."""
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", access, beneath)
        _syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(beneath)


def forbid_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: asked for by Landlock and by seccomp."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def die_with_parent() -> None:
    """SIGKILL to this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(9))


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable sets (those of a user's container, since root changes uid)."""
    header, data = struct.pack("<Ii", 0x20080522, 0), bytes(24)  # _LINUX_CAPABILITY_VERSION_3
    if _libc.capset(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def restrict_files(ruleset: int, abi: int) -> None:
    """Enforces a Landlock ruleset on this thread and its future children."""
    _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(_QUIET if abi >= 7 else 0))


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict_calls(filter_bytes: bytes) -> None:
    """Installs a seccomp filter on this thread and its future children."""
    program = _Program(len(filter_bytes) // 8, filter_bytes)
    _prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program))
