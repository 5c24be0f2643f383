"""The seccomp filter: a list of allowed system calls, compiled to a classic BPF program (linux/seccomp.h,
linux/filter.h).

Calls that are not listed fail with EPERM, so that Python raises PermissionError. Calls that only an attack makes, and
calls of a different architecture, end the process with SIGSYS. The BPF program is a binary search over call numbers.
When the program is installed, the kernel runs it once per call number, which would take longer than the fork if the
program were a linear list.
"""

from __future__ import annotations

import errno

from thinkling.sandbox import syscalls
from thinkling.sandbox.kernel import OWN_PID

# Instructions (linux/bpf_common.h): load a word of seccomp_data, compare the word with a constant, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _MASK, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_KILL = 0x80000000  # SECCOMP_RET_KILL_PROCESS
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_X32 = 0x40000000

CLONE_THREAD, CLONE_NAMESPACES = 0x10000, 0x7E020000
_SIGKILL, _SIGCONT, _SIGSTOP = 9, 18, 19
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_*LK*, F_DUPFD_CLOEXEC, F_GETPIPE_SZ.
# Excludes F_SETOWN and F_SETSIG, which can send signals to other processes, and F_SETPIPE_SZ (uses kernel memory).
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
# TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Excludes TIOCSTI, FS_IOC_SETFLAGS, FIOSETOWN.
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_PRCTL = (15, 16)  # PR_SET_NAME, PR_GET_NAME
_RLIMIT_STACK = 3
_MSG_OOB = 1

Row = tuple[int, int, int, int]


def _give(value: int) -> list[Row]:
    return [(_RETURN, 0, 0, value)]


_PERMIT, _REFUSE, _END = _give(_ALLOW), _give(_ERRNO | errno.EPERM), _give(_KILL)
_MISSING = _give(_ERRNO | errno.ENOSYS)


def _load(argument: int, high: bool = False) -> Row:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4 * high)


def _unless(test: int, constant: int) -> list[Row]:
    """Reject the call unless the test holds for the loaded value."""
    return [(test, 1, 0, constant), *_REFUSE]


def _if(test: int, constant: int) -> list[Row]:
    """Reject the call if the test holds for the loaded value."""
    return [(test, 0, 1, constant), *_REFUSE]


def _one_of(argument: int, constants: tuple[int, ...]) -> list[Row]:
    rows = [_load(argument)]
    for constant in constants:
        rows += [(_EQUAL, 0, 1, constant), *_PERMIT]
    return rows + _REFUSE


def _rules() -> dict[str, list[Row]]:
    """Return the rules for calls that are allowed depending on their arguments. Only the low word of int arguments is
    compared, because the kernel ignores the high word."""
    own = _unless(_EQUAL, OWN_PID)
    # A program may not kill itself, because the run would look as if it was killed from outside, and would not be
    # scored. A program may not send SIGCONT to itself, because it could then not be paused.
    survivable = [*_if(_EQUAL, _SIGKILL), *_if(_EQUAL, _SIGSTOP), *_if(_EQUAL, _SIGCONT), *_PERMIT]
    return {
        "clone": [_load(0), *_unless(_ANY_BIT, CLONE_THREAD), *_if(_ANY_BIT, CLONE_NAMESPACES), *_PERMIT],
        "kill": [_load(0), *own, _load(1), *survivable],
        "tgkill": [_load(0), *own, _load(2), *survivable],
        # A program may read its own limits, but only set the limit of the stack (as recursive programs do).
        "prlimit64": [
            _load(0), (_EQUAL, 2, 0, 0), *own,
            _load(1), (_EQUAL, 0, 1, _RLIMIT_STACK), *_PERMIT,
            _load(2), *_unless(_EQUAL, 0), _load(2, high=True), *_unless(_EQUAL, 0), *_PERMIT,
        ],
        "setrlimit": _one_of(0, (_RLIMIT_STACK,)),
        # asyncio needs a pair of stream sockets to wake itself. A datagram socket could send to any address.
        "socketpair": [_load(0), *_unless(_EQUAL, 1), _load(1), (_MASK, 0, 0, 0xF), *_unless(_EQUAL, 1), *_PERMIT],
        "sendto": [_load(3), *_if(_ANY_BIT, _MSG_OOB), *_PERMIT],
        "recvfrom": [_load(3), *_if(_ANY_BIT, _MSG_OOB), *_PERMIT],
        "prctl": _one_of(0, _PRCTL),
        "fcntl": _one_of(1, _FCNTL),
        "ioctl": _one_of(1, _IOCTL),
    }  # fmt: skip


def _search(starts: list[tuple[int, list[Row]]]) -> list[Row]:
    """Return a binary search for the block that applies to a call number. `starts`: ascending pairs of the first number
    to which a block applies, and the block."""
    if len(starts) == 1:
        return starts[0][1]
    middle = len(starts) // 2
    below, above = _search(starts[:middle]), _search(starts[middle:])
    assert len(below) < 256, "a jump spans at most 255 instructions"
    return [(_AT_LEAST, len(below), 0, starts[middle][0]), *below, *above]


def filter_rows(machine: str) -> list[Row]:
    """Return the filter for `x86_64` or `aarch64` as rows of code, jump if true, jump if false, and constant. Raises
    ValueError for other machines."""
    rules = _rules()
    blocks = {number: rules[name] for name, number in syscalls.judged(machine).items()}
    for numbers, block in (
        (syscalls.allowed(machine), _PERMIT),
        (syscalls.absent(machine), _MISSING),
        (syscalls.fatal(machine), _END),
    ):
        blocks |= dict.fromkeys(numbers.values(), block)
    starts: list[tuple[int, list[Row]]] = []
    for number in range(syscalls.HIGHEST_KNOWN + 1):
        block = blocks.get(number, _REFUSE)
        if not starts or starts[-1][1] is not block:
            starts.append((number, block))
    starts += [(syscalls.HIGHEST_KNOWN + 1, _MISSING), (_X32, _END)]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, syscalls.AUDIT_ARCHITECTURE[machine]),
        *_END,
        (_LOAD, 0, 0, _NUMBER),
        *_search(starts),
    ]
