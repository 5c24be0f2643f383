"""Packages that programs may import in addition to the standard library if the server is started with them.

The server imports the commonly used modules of the packages before it forks. A child may read the folders of the
packages, but no other installed files. All other restrictions on files, system calls and resources stay the same.
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
"""Package → the modules that the server imports for the package."""
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment variables that disable threads in the server, which must be single-threaded because it forks."""


def importable(names: Collection[str]) -> frozenset[str]:
    """Return the top-level modules that programs can import with these packages."""
    return frozenset(part.partition(".")[0] for name in names for part in PARTS[name])


def missing(names: Collection[str]) -> list[str]:
    """Return the modules that these packages need and that are not installed."""
    return sorted(name for name in importable(names) if importlib.util.find_spec(name) is None)


def locations(names: Collection[str]) -> dict[str, str]:
    """Return a mapping from the modules that these packages need to the modules' folders. Raises UserError if a package
    is unknown or not installed."""
    for name in names:
        if name not in PARTS:
            raise UserError(f"sandbox.packages: unknown package {name!r}; use one of {', '.join(PARTS)}")
    if lacking := missing(names):
        raise UserError(f"sandbox.packages: not installed: {', '.join(lacking)}; run pip install {' '.join(lacking)}")
    found = {}
    for name in sorted(importable(names)):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        found[name] = os.path.realpath(next(iter(spec.submodule_search_locations)))
    return found


def load(described: str) -> list[str]:
    """Import the packages in the server, as encoded by `describe`, and return the folders that children may read."""
    given = json.loads(described)
    parents = sorted({os.path.dirname(folder) for folder in given["folders"]})
    before = sys.path[:]
    sys.path += parents
    for module in given["modules"]:
        importlib.import_module(module)
    sys.path[:] = before  # other packages in these folders cannot be imported
    libraries = [f"{folder}.libs" for folder in given["folders"]]  # C libraries bundled with a wheel
    return [folder for folder in [*given["folders"], *libraries] if os.path.isdir(folder)]


def describe(names: Collection[str]) -> str:
    """Encode the packages for a server's command line. Raises the same UserErrors as `locations`."""
    modules = [part for name in sorted(names) for part in PARTS[name]]
    return json.dumps({"modules": modules, "folders": list(locations(names).values())})
