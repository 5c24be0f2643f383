"""Named extensions: those built in, and what installed packages offer by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from thinkling.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Extensions of one kind by name. A plug-in that is broken or clashes fails only where its name is used."""

    def __init__(self, kind: str, group: str, built_in: Mapping[str, T]) -> None:
        """`kind`: the word that errors use, such as `tool`; `group`: the group of entry points."""
        self.kind, self.group, self.built_in = kind, group, dict(built_in)
        self._loaded: dict[str, T] = {}

    @property
    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group))

    @property
    def names(self) -> list[str]:
        """All known names: built in first, then those of entry points."""
        return [*self.built_in, *sorted({point.name for point in self._points} - set(self.built_in))]

    def resolve(self, name: str) -> T:
        """The extension of that name.

        Raises UserError where there is none, two packages define it, a package takes a built-in name, or its code
        cannot be imported.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Any:
        offered = [point for point in self._points if point.name == name]
        if len(offered) + (name in self.built_in) > 1:
            raise UserError(
                f"{self.kind} {name!r} is defined more than once; rename the entry point {offered[0].value}"
            )
        if name in self.built_in:
            return self.built_in[name]
        if not offered:
            raise UserError(
                f"unknown {self.kind} {name!r}; there are {', '.join(self.names)}; "
                f"add one by an entry point of group {self.group}"
            )
        try:
            return offered[0].load()
        except Exception as error:  # an installed package may fail to import in any way
            raise UserError(f"{self.kind} {name!r}: {offered[0].value} cannot be loaded ({error})") from error
