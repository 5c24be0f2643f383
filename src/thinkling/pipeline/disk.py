"""One-line error messages for a disk that cannot be written to, whichever library raised the error."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_TOLD = re.compile(
    r"no space left on device|disk quota exceeded|file too large|read-only file system|os error (?:28|122|27|30)\b",
    re.IGNORECASE,
)
"""Messages of libraries that do not raise OSError, such as safetensors and Lance."""


def disk_is_full(error: BaseException, directory: Path) -> str | None:
    """Return an error message if the error, or one of its causes, is a failed write to a disk; otherwise return None.

    `directory`: the folder of the run, which the message contains if the error does not contain a file name.
    """
    for cause in _causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        found = _TOLD.search(str(cause))
        if found is None and number not in _ERRORS:
            continue
        name = cause.filename if isinstance(cause, OSError) else None
        where = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else directory
        reason = found[0] if found else os.strerror(number or 0)
        there = next(path for path in (where, *where.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        return (
            f"{where}: cannot be written: {reason.lower()} ({free / 1e6:,.1f} MB free on this disk); free some space "
            "and repeat the command to resume the run"
        )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, including the members of exception groups and the failures of the ranks of a
    distributed checkpoint."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        queue += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        queue += [failure for pair in getattr(one, "failures", {}).values() for failure in _listed(pair)]


def _listed(failure: object) -> tuple[object, ...]:
    return tuple(failure) if isinstance(failure, tuple) else (failure,)
