"""Environment variables that make runs reproducible."""

from __future__ import annotations

import os
import sys

MALLOC = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"), str(64 << 20))


def fix_environment(threads: int, module: str = "thinkling") -> None:
    """Restart this process as `python -m MODULE` unless its environment has the required variables.

    The variables set the hash seed, the thread count and malloc's thresholds. They must be set before the interpreter
    and the numeric libraries load, because their values are read only once. The malloc thresholds make the process keep
    freed memory, which makes a training step of a small model 3–6% faster (docs/LAB.md).
    """
    wanted = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **MALLOC}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
