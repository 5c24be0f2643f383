"""What a program may use, and what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

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
class Step:
    """Something that is done in the program's namespace after the program.

    `run`: statements; `value`: an expression, whose value is reported; `truth`: an expression, whose truth is reported;
    `read`: an assertion of a test, which is split without the program (see assertions.py).
    """

    kind: Literal["run", "value", "truth", "read"]
    source: str


@dataclass(frozen=True)
class Job:
    """One run. Without steps the program is `__main__`; with steps it is imported as the module `program`."""

    code: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Put into the private folder, which is the working directory: plain names, no folders."""
    steps: tuple[Step, ...] = ()
    limits: Limits | None = None
    """None: the sandbox's own."""

    def __post_init__(self) -> None:
        for name in self.files:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise UserError(f"sandbox file {name!r}: a plain file name is needed, without folders")
