"""Determines which parts of the standard library a child may read, and by which path."""

from __future__ import annotations

import importlib
import os
import stat
import sys
import sysconfig
from importlib.machinery import PathFinder

from thinkling.sandbox import kernel

DESCRIPTOR = 4
"""Descriptor of the library's folder in a child, for when its path cannot be traversed."""
_LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "turtledemo"}


def allow(ruleset: int) -> None:
    """Allows reading the standard library and the C libraries of its extension modules, but no installed packages."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for folder in sorted(folders):
        for name in sorted(set(os.listdir(folder)) - _LEFT_OUT):
            path = os.path.join(folder, name)
            if os.path.exists(path):  # links may be broken
                kernel.allow_path(ruleset, path, kernel.READ if os.path.isdir(path) else kernel.READ_FILE)
    for path in _c_libraries(sysconfig.get_path("platstdlib")):
        kernel.allow_path(ruleset, path, kernel.READ_FILE)


def _c_libraries(folder: str) -> list[str]:
    """Shared objects loaded once every extension module is imported, determined in a separate process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for name in sorted(os.listdir(os.path.join(folder, "lib-dynload"))):
                module = name.partition(".")[0]
                if not module.startswith(("_test", "_xx", "xx", "_tkinter", "_curses", "readline")):
                    try:
                        importlib.import_module(module)
                    except ImportError:  # its C library is not installed
                        continue
            with open("/proc/self/maps") as maps:
                paths = {line.split(maxsplit=5)[-1].strip() for line in maps if ".so" in line}
            os.write(write, "\n".join(sorted(paths)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as lines:
        found = lines.read().splitlines()
    os.waitpid(child, 0)
    return [path for path in found if path.startswith("/") and os.path.exists(path)]


def reachable() -> bool:
    """Whether a user other than root can traverse the path to the library."""
    for name in ("stdlib", "platstdlib"):
        path = sysconfig.get_path(name)
        while path != "/":
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return False
            path = os.path.dirname(path)
    return True


def enter_by_descriptor() -> None:
    """Root's Python may be in a folder that nobody else can enter (/root/.pyenv). A descriptor bypasses it."""
    folder = sysconfig.get_path("stdlib")
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    os.dup2(opened, DESCRIPTOR)
    os.close(opened)
    replaced = f"/proc/self/fd/{DESCRIPTOR}"

    def moved(path: str) -> str:
        return replaced + path.removeprefix(folder) if path.startswith(folder + "/") or path == folder else path

    sys.path[:] = map(moved, sys.path)
    for module in list(sys.modules.values()):
        paths = getattr(module, "__path__", None)
        if isinstance(paths, list):
            paths[:] = map(moved, paths)


def remember_folders() -> None:
    """Caches listings of sys.path folders, which a child may not list because they also contain installed packages."""
    importlib.invalidate_caches()
    PathFinder.find_spec("thinkling_sandbox_no_such_module")
