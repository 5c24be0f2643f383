"""Packages that programs may import in addition to the standard library, on a server started with them.

The server imports all their commonly used modules before it forks; a child may read their folders and no other
installed files. The confinement of a child is otherwise the same: files, calls and limits.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Collection, Mapping

from thinkling.errors import UserError

PARTS: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy", "numpy.fft", "numpy.linalg", "numpy.ma", "numpy.polynomial", "numpy.random", "numpy.testing"),
    "sympy": ("mpmath", "sympy", "sympy.combinatorics", "sympy.ntheory", "sympy.stats"),
}
"""Package → the modules that are imported for it."""
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Disables threads in the server, because it forks."""


def importable(names: Collection[str]) -> frozenset[str]:
    """Top-level modules that programs can import if these packages are available."""
    return frozenset(part.partition(".")[0] for name in names for part in PARTS[name])


def missing(names: Collection[str]) -> list[str]:
    """Modules that these packages need and this Python lacks."""
    return sorted(name for name in importable(names) if importlib.util.find_spec(name) is None)


def locations(names: Collection[str]) -> dict[str, str]:
    """Module → folder, for each module that these packages need. UserError: a package is unknown or not installed."""
    for name in names:
        if name not in PARTS:
            raise UserError(f"sandbox.packages: unknown package {name!r}; known are {', '.join(PARTS)}")
    if lacking := missing(names):
        raise UserError(f"sandbox.packages: not installed: {', '.join(lacking)}; pip install {' '.join(lacking)}")
    found = {}
    for name in sorted(importable(names)):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        found[name] = os.path.realpath(next(iter(spec.submodule_search_locations)))
    return found


def load(described: str) -> list[str]:
    """In the server: imports what `describe` describes; returns the folders that children may read."""
    given = json.loads(described)
    parents = sorted({os.path.dirname(folder) for folder in given["folders"]})
    before = sys.path[:]
    sys.path += parents
    for module in given["modules"]:
        importlib.import_module(module)
    sys.path[:] = before  # nothing else installed there can be imported
    libraries = [f"{folder}.libs" for folder in given["folders"]]  # C libraries bundled with a wheel
    return [folder for folder in [*given["folders"], *libraries] if os.path.isdir(folder)]


def describe(names: Collection[str]) -> str:
    """The packages, encoded for a server's command line. UserError as in `locations`."""
    modules = [part for name in sorted(names) for part in PARTS[name]]
    return json.dumps({"modules": modules, "folders": list(locations(names).values())})
