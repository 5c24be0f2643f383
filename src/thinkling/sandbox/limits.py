"""Limits on programs, and the description of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from thinkling.errors import UserError

MINIMUM_MEMORY = 128 * 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of one run. Raises UserError if a value is not positive, or if the memory is too small for an
    interpreter."""

    cpu_seconds: int = 5
    """CPU time, in whole seconds as counted by the kernel."""
    wall_seconds: float = 10.0
    """Wall-clock time of the program. The default is twice the CPU time, so that programs do not fail on a busy
    machine."""
    memory_bytes: int = 512 * 2**20
    """Address space, including about 100 MB for the interpreter and its modules."""
    output_bytes: int = 2**20
    """Limit for each of standard output and standard error."""
    disk_bytes: int = 16 * 2**20
    """Limit for the total size of all files in the private folder, which also applies to a single file."""
    open_files: int = 64
    threads: int = 32

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) <= 0:
                raise UserError(f"sandbox limits: {one.name} is {getattr(self, one.name)}; it must be above 0")
        if self.memory_bytes < MINIMUM_MEMORY:
            raise UserError(f"sandbox limits: memory_bytes is {self.memory_bytes}; the minimum is {MINIMUM_MEMORY}")


@dataclass(frozen=True)
class Tests:
    """Input of a tester (tester.py), created from the text of tests by reading.py."""

    tests: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """For each test, its source code, and (kind, name) of each function and class to run after the source code, which
    defines but does not call them."""
    setup: str = ""
    """Set-up code, which is run after the program and before the tests."""
    prelude: str = ""
    """Definitions of the set-up code that the program may use. Apart from `classes`, only they are sent to the
    program's process."""
    names: tuple[str, ...] = ()
    """Names of the program that the tests use."""
    modules: tuple[str, ...] = ()
    """Those of the `names` that are modules of the standard library. The tester imports these modules itself."""
    classes: tuple[str, ...] = ()
    """Classes of the prelude. Their objects are transferred between the processes as copies of their attributes."""
    operators: bool = False
    """Whether the tests create objects of the program's classes. If so, arithmetic with these objects is performed by
    the program."""


@dataclass(frozen=True)
class Job:
    """The description of a run. Without tests, the program is run as `__main__`; with tests, it is imported as the
    module `program`."""

    code: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Plain file name → content. The files are written to the private folder, which is the working directory."""
    tests: Tests | None = None
    limits: Limits | None = None
    """Limits of the run. If None, the limits of the sandbox are used."""

    def __post_init__(self) -> None:
        for name in self.files:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise UserError(f"sandbox file {name!r}: not a plain file name; use a name without folders")
