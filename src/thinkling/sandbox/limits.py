"""What a program may use, and the description of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from thinkling.errors import UserError

MINIMUM_MEMORY = 128 * 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of one run. UserError: a value that is not positive, or too little memory for an interpreter."""

    cpu_seconds: int = 5
    """CPU time, in whole seconds as counted by the kernel."""
    wall_seconds: float = 10.0
    """Wall-clock time of the program. Twice the CPU time, so that a busy machine does not make a program fail."""
    memory_bytes: int = 512 * 2**20
    """Address space, including about 100 MB for the interpreter and its modules."""
    output_bytes: int = 2**20
    """Limit for standard output and for standard error, each."""
    disk_bytes: int = 16 * 2**20
    """Limit for all files in the private folder together, and for a single file."""
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
    """Input of a tester (see reading.py, which creates it from the text of tests, and tester.py)."""

    tests: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """For each test, its source and what to run after it, as (kind, name): functions and classes never called."""
    setup: str = ""
    """Runs after the program and before the tests."""
    prelude: str = ""
    """Set-up definitions that the program may use; the only part that is sent to the program's process."""
    names: tuple[str, ...] = ()
    """Names that the tests take from the program."""
    modules: tuple[str, ...] = ()
    """Those names that are modules of the standard library: a tester uses its own."""
    classes: tuple[str, ...] = ()
    """Classes of the prelude: their objects are transferred between the processes by their attributes."""
    operators: bool = False
    """Whether the tests create objects of the program's classes, so that arithmetic with them is the program's."""


@dataclass(frozen=True)
class Job:
    """One run. Without tests the program is `__main__`; with tests it is imported as the module `program`."""

    code: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Written to the private folder, which is the working directory: plain names, no folders."""
    tests: Tests | None = None
    limits: Limits | None = None
    """None: the sandbox's own."""

    def __post_init__(self) -> None:
        for name in self.files:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise UserError(f"sandbox file {name!r}: must be a plain file name, without folders")
