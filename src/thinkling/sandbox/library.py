"""Access of children to the standard library: the parts that they may read, and the path that they use."""

from __future__ import annotations

import importlib
import os
import stat
import sys
import sysconfig
from importlib.machinery import PathFinder

from thinkling.sandbox import kernel

DESCRIPTOR = 4
"""File descriptor of the library's folder in a child. It is used if the child cannot traverse the path to the
folder."""
_LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "turtledemo"}


def allow(ruleset: int) -> None:
    """Allow reading the standard library and the C libraries of its extension modules, but not installed packages."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for folder in sorted(folders):
        for name in sorted(set(os.listdir(folder)) - _LEFT_OUT):
            path = os.path.join(folder, name)
            if os.path.exists(path):  # false for broken links
                kernel.allow_path(ruleset, path, kernel.READ if os.path.isdir(path) else kernel.READ_FILE)
    for path in _c_libraries(sysconfig.get_path("platstdlib")):
        kernel.allow_path(ruleset, path, kernel.READ_FILE)


def _c_libraries(folder: str) -> list[str]:
    """Return the shared objects that are loaded when all extension modules are imported, as found in a separate
    process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for name in sorted(os.listdir(os.path.join(folder, "lib-dynload"))):
                module = name.partition(".")[0]
                if not module.startswith(("_test", "_xx", "xx", "_tkinter", "_curses", "readline")):
                    try:
                        importlib.import_module(module)
                    except ImportError:  # the module's C library is not installed
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
    """Replace the path of the library by a path through a descriptor. This is needed if Python is in a folder that only
    root can enter, such as /root/.pyenv."""
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
    """Cache the listings of the folders in sys.path. A child may not list these folders, because they also contain
    installed packages."""
    importlib.invalidate_caches()
    PathFinder.find_spec("thinkling_sandbox_no_such_module")
