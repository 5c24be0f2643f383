"""Registries of objects that a recipe refers to by name and that a package can add: sources, verifiers, tools, styles.

Each kind of object has its own entry point group. A plug-in is imported only when a recipe uses it, so a broken plug-in
affects only the recipes that use it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from thinkling.errors import UserError


class Registry:
    """The named objects of one kind: the built-in objects and those that installed packages add.

    `what`: name of the kind, used in error messages. `group`: entry point group that packages use. `built_in`: name →
    `module:attribute`, imported on demand.
    """

    def __init__(self, what: str, group: str, built_in: Mapping[str, str]) -> None:
        self.what, self.group, self.built_in = what, group, dict(built_in)
        self._loaded: dict[str, Any] = {}

    @cached_property
    def _added(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> list[str]:
        """Return all names, starting with those of built-in objects."""
        return [*self.built_in, *sorted(set(self._added) - set(self.built_in))]

    def __contains__(self, name: str) -> bool:
        return name in self.built_in or name in self._added

    def resolve(self, name: str) -> Any:
        """Import and return the object with this name.

        Raises UserError if no object has this name, if two packages (or a package and thinkling itself) define the
        name, or if the object cannot be imported from its package.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Any:
        added = self._added.get(name, [])
        if len(added) + (name in self.built_in) > 1:
            raise UserError(f"{self.what} {name!r} is defined more than once; rename the entry point {added[0].value}")
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if not added:
            raise UserError(
                f"unknown {self.what} {name!r}; use one of {', '.join(self.names())}; a package can add others with an "
                f"entry point in the group {self.group}"
            )
        try:
            return added[0].load()
        except Exception as error:  # an installed package may fail to import in any way
            raise UserError(
                f"{self.what} {name!r}: {added[0].value} cannot be loaded ({error}); fix or uninstall the package"
            ) from error
