"""The process environment that exact repetition needs."""

from __future__ import annotations

import os
import sys

MALLOC = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"), str(64 << 20))


def fix_environment(threads: int, module: str = "thinkling") -> None:
    """Restarts this process as `python -m MODULE` if the hash seed or the thread count differ from what exact
    repetition needs.

    Both are read once, when the interpreter and the numeric libraries load. So are malloc's settings: freed memory is
    kept, which saves a training step of a small model 3–6% (docs/LAB.md).
    """
    wanted = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **MALLOC}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
