"""What a program may use, and what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from thinkling.errors import UserError

MINIMUM_MEMORY = 128 * 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of one run. UserError: a value that is not above 0, or memory too small for an interpreter."""

    cpu_seconds: int = 5
    """Processor time, whole seconds as the kernel counts them."""
    wall_seconds: float = 10.0
    """Clock time of the program. Twice the processor time, so that a busy machine does not make a program wrong."""
    memory_bytes: int = 512 * 2**20
    """Address space, about 100 MB of which the interpreter and its modules take."""
    output_bytes: int = 2**20
    """Of standard output and standard error, each."""
    disk_bytes: int = 16 * 2**20
    """Of all files in the private folder together, and of one file."""
    open_files: int = 64
    threads: int = 32

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) <= 0:
                raise UserError(f"sandbox limits: {one.name} is {getattr(self, one.name)}; it has to be above 0")
        if self.memory_bytes < MINIMUM_MEMORY:
            raise UserError(f"sandbox limits: memory_bytes is {self.memory_bytes}; the least is {MINIMUM_MEMORY}")


@dataclass(frozen=True)
class Tests:
    """What a tester does (see reading.py, which makes it of the text of tests, and tester.py)."""

    tests: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Of each test its source, and what is run after it, as (kind, name): functions and classes that nothing runs."""
    setup: str = ""
    """Runs after the program and before the tests."""
    prelude: str = ""
    """Definitions of the set-up that the program may use; the only part that the program's process is told."""
    names: tuple[str, ...] = ()
    """Names that the tests take from the program."""
    modules: tuple[str, ...] = ()
    """Those of them that are modules of the standard library: a tester takes its own."""
    classes: tuple[str, ...] = ()
    """Classes of the prelude: their objects go from one process to the other by their attributes."""
    operators: bool = False
    """Whether the tests make objects of the program's classes, so that arithmetic with them is the program's."""


@dataclass(frozen=True)
class Job:
    """One run. Without tests the program is `__main__`; with tests it is imported as the module `program`."""

    code: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Put into the private folder, which is the working directory: plain names, no folders."""
    tests: Tests | None = None
    limits: Limits | None = None
    """None: the sandbox's own."""

    def __post_init__(self) -> None:
        for name in self.files:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise UserError(f"sandbox file {name!r}: a plain file name is needed, without folders")
