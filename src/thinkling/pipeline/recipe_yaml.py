"""Strict parsing of recipe files, and overrides of single fields."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any

import yaml

from thinkling.errors import UserError

MOST_VALUES = 1_000_000
"""Maximum number of values in a recipe after all YAML aliases are expanded. Nested aliases in a file of ten lines can
expand to billions of values."""

MOST_LEVELS = 100
"""Maximum nesting depth of lists and mappings. Parsing hundreds of levels takes seconds."""


class _Loader(yaml.SafeLoader):
    """YAML loader that raises an error for duplicate keys, because PyYAML would silently use the last of them.

    Values that a tag or a resolver cannot parse (month 99, `!!int x`, a number of 5,000 digits) also raise
    ConstructorError.
    """

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._level >= MOST_LEVELS:
            problem = f"nested too deeply: more than {MOST_LEVELS} levels of lists and mappings"
            raise yaml.MarkedYAMLError(None, None, problem, self.get_mark())
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"a value cannot be read as {kind}; correct it or put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping; use a single value as the key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice; remove one of them", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse a YAML file that contains a mapping. Aliases of an anchor are expanded to separate objects.

    Raises UserError with the path and, if the YAML is invalid, the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    try:
        data = _Copy().of(_parse(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}{where}: not valid YAML: {problem}") from error
    except RecursionError:
        raise UserError(f"{path}: lists and mappings are nested too deeply") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe must be a mapping with at least `name` and `stages`")
    return data


def apply_override(data: dict[str, Any], override: str, known: Collection[str]) -> None:
    """Set one field from an override such as `a.b.0.c=value`, whose value is parsed as YAML.

    All parts of the path except the last must exist. `known`: top-level fields that may be missing from the file.
    Raises UserError with the part of the path that does not exist.
    """
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise UserError(f"--set {override}: write field=value, for example --set stages.pretrain.checkpoint_every=100")
    *parents, last = path.split(".")
    node: Any = data
    for depth, part in enumerate(parents):
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        existing = range(len(node)) if isinstance(node, list) else node
        if not isinstance(node, dict | list) or key not in existing:
            if depth == 0 and part in known and part not in data:
                data[part] = {}
            else:
                raise UserError(
                    f"--set {override}: the recipe has no field {'.'.join(parents[: depth + 1])}; correct the path"
                )
        node = node[key]
    try:
        value = _Copy().of(_parse(text))
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML; correct it or put it in quotes") from error
    except RecursionError:
        raise UserError(f"--set {path}: lists and mappings are nested too deeply") from None
    except UserError as error:
        raise UserError(f"--set {override}: {error}") from error
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise UserError(
                f"--set {override}: {'.'.join(parents)} is a list of length {len(node)}, so {last!r} is not an index "
                "of it; count from 0"
            )
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"--set {override}: {'.'.join(parents)} is a single value and has no fields; correct the path")


def _parse(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


class _Copy:
    """Copies parsed YAML so that every alias becomes a separate object, because PyYAML shares one object between all
    aliases of an anchor."""

    def __init__(self) -> None:
        self._values = 0

    def of(self, node: Any, path: tuple[str, ...] = (), above: tuple[int, ...] = ()) -> Any:
        """Copy a value. Raises UserError for an anchor that contains itself, too many values, or a number that is not
        finite."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise UserError(
                f"more than {MOST_VALUES:,} values after expanding YAML anchors; remove anchors inside anchors"
            )
        if id(node) in above:
            raise UserError("a YAML anchor contains itself; remove the anchor and write out its value")
        if isinstance(node, dict):
            return {key: self.of(value, (*path, str(key)), (*above, id(node))) for key, value in node.items()}
        if isinstance(node, list):
            return [self.of(value, (*path, str(i)), (*above, id(node))) for i, value in enumerate(node)]
        if isinstance(node, float) and not math.isfinite(node):
            raise UserError(f"{'.'.join(path) or 'the value'}: {node} is not a finite number; write a finite number")
        return node
