import errno
import re
import subprocess
from pathlib import Path

import pytest

from thinkling.sandbox import syscalls
from thinkling.sandbox.kernel import OWN_PID
from thinkling.sandbox.seccomp import Row, filter_rows

PID = 4711
ALLOW, REFUSE, MISSING, KILL = "allow", "refuse", "missing", "kill"


def decide(rows: list[Row], machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    """Runs the filter as the kernel would."""
    words = {0: number, 4: architecture or syscalls.AUDIT_ARCHITECTURE[machine]}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    accumulator, at = 0, 0
    while True:
        code, yes, no, constant = rows[at]
        constant = PID if constant == OWN_PID else constant
        at += 1
        match code:
            case 0x20:
                accumulator = words[constant]
            case 0x54:
                accumulator &= constant
            case 0x15:
                at += yes if accumulator == constant else no
            case 0x35:
                at += yes if accumulator >= constant else no
            case 0x45:
                at += yes if accumulator & constant else no
            case 0x06:
                known = {
                    0x7FFF0000: ALLOW,
                    0x80000000: KILL,
                    0x50000 | errno.EPERM: REFUSE,
                    0x50000 | errno.ENOSYS: MISSING,
                }
                return known[constant]


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_number_has_its_decision(machine: str) -> None:
    rows = filter_rows(machine)
    expected = dict.fromkeys(range(syscalls.HIGHEST_KNOWN + 1), REFUSE)
    expected |= dict.fromkeys(syscalls.allowed(machine).values(), ALLOW)
    expected |= dict.fromkeys(syscalls.absent(machine).values(), MISSING)
    expected |= dict.fromkeys(syscalls.fatal(machine).values(), KILL)
    for number in syscalls.judged(machine).values():
        del expected[number]
    assert {number: decide(rows, machine, number) for number in expected} == expected
    assert decide(rows, machine, syscalls.HIGHEST_KNOWN + 1) == MISSING
    for number in (0x40000000, 0x40000039, 0xFFFFFFFF):
        assert decide(rows, machine, number) == KILL


def test_no_call_has_two_decisions(machine: str) -> None:
    tables = [table(machine) for table in (syscalls.allowed, syscalls.judged, syscalls.absent, syscalls.fatal)]
    names = [name for table in tables for name in table]
    numbers = [number for table in tables for number in table.values()]
    assert len(set(names)) == len(names)
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) <= syscalls.HIGHEST_KNOWN


def test_another_architecture_ends_the_process(machine: str) -> None:
    rows = filter_rows(machine)
    for architecture in {0x40000003, *syscalls.AUDIT_ARCHITECTURE.values()} - {syscalls.AUDIT_ARCHITECTURE[machine]}:
        assert decide(rows, machine, 0, architecture=architecture) == KILL


def test_jumps_stay_inside_and_every_path_ends(machine: str) -> None:
    rows = filter_rows(machine)
    assert len(rows) < 4096
    for at, (code, yes, no, constant) in enumerate(rows):
        assert 0 <= yes < 256
        assert 0 <= no < 256
        assert constant == OWN_PID or 0 <= constant < 2**32
        assert code == 0x06 or at + 1 + max(yes, no) < len(rows)


THREAD = 0x3D0F00  # what pthread_create asks for
CASES = {
    "clone": [((THREAD,), ALLOW), ((17,), REFUSE), ((THREAD | 0x10000000,), REFUSE), ((0x4111,), REFUSE)],
    "kill": [
        *[((PID, 15), ALLOW), ((PID, 0), ALLOW), ((PID, 9), REFUSE), ((PID, 18), REFUSE), ((PID, 19), REFUSE)],
        *[((1, 15), REFUSE)],
        *[((0, 15), REFUSE), ((0xFFFFFFFF, 0), REFUSE), ((-PID & 0xFFFFFFFF, 15), REFUSE)],
    ],
    "tgkill": [((PID, 1, 6), ALLOW), ((PID, 1, 9), REFUSE), ((1, 1, 6), REFUSE)],
    "prlimit64": [
        *[((0, 7, 0, 1), ALLOW), ((PID, 7, 0, 1), ALLOW), ((1, 7, 0, 1), REFUSE), ((0, 7, 4096, 0), REFUSE)],
        *[((0, 7, 1 << 32, 0), REFUSE), ((0, 3, 4096, 0), ALLOW), ((1, 3, 4096, 0), REFUSE)],
    ],
    "setrlimit": [((3, 1), ALLOW), ((0, 1), REFUSE)],
    "socketpair": [((1, 1), ALLOW), ((1, 0x80801), ALLOW), ((1, 2), REFUSE), ((1, 5), REFUSE), ((2, 1), REFUSE)],
    "sendto": [((5, 1, 1, 0), ALLOW), ((5, 1, 1, 0x4000), ALLOW), ((5, 1, 1, 1), REFUSE), ((5, 1, 1, 0x4001), REFUSE)],
    "recvfrom": [((5, 1, 1, 0), ALLOW), ((5, 1, 1, 1), REFUSE)],
    "prctl": [((15,), ALLOW), ((1,), REFUSE), ((4,), REFUSE), ((22,), REFUSE), ((38,), REFUSE)],
    "fcntl": [((3, 1), ALLOW), ((3, 1030), ALLOW), ((3, 8), REFUSE), ((3, 10), REFUSE), ((3, 1031), REFUSE)],
    "ioctl": [((1, 0x5401), ALLOW), ((1, 0x5412), REFUSE), ((1, 0x40086602), REFUSE)],
}


@pytest.mark.parametrize("name", CASES)
def test_arguments_decide(machine: str, name: str) -> None:
    number = syscalls.judged(machine)[name]
    for arguments, expected in CASES[name]:
        assert decide(filter_rows(machine), machine, number, *arguments) == expected, arguments


def test_cases_cover_all_judged_calls(machine: str) -> None:
    assert set(CASES) == set(syscalls.judged(machine))


def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    headers = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
    path = Path("/usr/include") / headers[machine]
    if not path.is_file():
        pytest.skip(f"no {path} (apt-get install linux-libc-dev)")
    wanted = "#define __ARCH_WANT_RENAMEAT\n#define __ARCH_WANT_SET_GET_RLIMIT\n#define __BITS_PER_LONG 64\n"
    wanted += "#define __ARCH_WANT_NEW_STAT\n#define __ARCH_WANT_SYS_CLONE3\n#define __ARCH_WANT_MEMFD_SECRET\n"
    source = wanted + f'#include "{path}"\n'
    run = subprocess.run(["cpp", "-dM"], input=source, capture_output=True, text=True)
    defined = dict(re.findall(r"#define (__NR\w*) (\S+)", run.stdout))
    for table in (syscalls.allowed, syscalls.judged, syscalls.absent, syscalls.fatal):
        for name, number in table(machine).items():
            value = f"__NR_{name}"
            while not value.isdigit():
                value = defined[value]
            assert int(value) == number, name
