"""Maps a user's own names of fields and roles to the standard names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TURN_LISTS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")
RECORD_FIELDS = (*TURN_LISTS, "tools", "system", "instruction", "input", "output", "history", "reasoning", "id")
TURN_FIELDS = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name", "loss")


@dataclass(frozen=True)
class FieldMap:
    """A mapping of names. `fields` maps standard names to names in the file, `roles` maps roles in the file to standard
    roles."""

    fields: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    def apply(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the record with the standard names, in the record itself and in its messages."""
        if not self.fields and not self.roles:
            return record
        named = self._renamed(record, RECORD_FIELDS)
        for name in TURN_LISTS:
            match named.get(name):
                case list() as turns:
                    named[name] = [self._turn(turn) if isinstance(turn, Mapping) else turn for turn in turns]
                case Mapping() as turn:
                    named[name] = self._turn(turn)
        return named

    def _turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        named = self._renamed(turn, TURN_FIELDS)
        for key in ("role", "from"):
            if isinstance(spelled := named.get(key), str):
                named[key] = self.roles.get(spelled, spelled)
        return named

    def _renamed(self, record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        """Renames the mapped fields.

        A mapped field is read only under the name in the file. A value under the standard name is a different field and
        is dropped.
        """
        mapped = {name: theirs for name, theirs in self.fields.items() if name in names and theirs in record}
        kept = {key: value for key, value in record.items() if key not in mapped and key not in mapped.values()}
        return kept | {name: record[theirs] for name, theirs in mapped.items()}


def without_nulls(value: Any) -> Any:
    """Returns the value without null fields at any depth.

    In a table, every row has all fields, so a null means that the field is absent.
    """
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value
