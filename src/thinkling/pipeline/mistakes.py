"""Conversion of pydantic's validation errors to messages for the author of a recipe: the field, the mistake and the
cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from thinkling.pipeline.renamed import moved_to, renamed_to

_ALTERNATIVE = re.compile(r"(?:literal|function-[a-z]+)\[.*\]|[A-Z]\w*Config", re.DOTALL)
"""Parts of an error's location that are not fields, but names that pydantic assigns to the types of a union."""
_EXPECTED = "Input should be "
_MAPPING = ("model_type", "model_attributes_type", "dict_type")


class SourceErrors(ValueError):
    """Mistakes in a recipe's sources, one line per mistake."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """Return one line per mistake: the path of the field as in the recipe, the mistake, and the nearest known key.

    `model`: the class that was validated. `where`: the path of the validated object in the recipe, which is put before
    the name of each field.
    """
    lines = []
    for item in _of_one_form(error.errors()):
        path = [str(part) for i, part in enumerate(item["loc"]) if not (i == 2 and item["loc"][0] == "stages")]
        path = [part if part.isprintable() else ascii(part) for part in path]
        field = ".".join([where, *path] if where else path)
        if item["type"] == "extra_forbidden":
            known, new = _siblings(model, item["loc"]), renamed_to(item["loc"])
            if new in known:
                lines.append(f"{field}: renamed to {new}")
            elif place := moved_to(item["loc"]):
                lines.append(f"{field}: moved to {place}")
            else:
                lines.append(f"{field}: unknown key{nearest(path[-1], known)}")
        elif isinstance(cause := item.get("ctx", {}).get("error"), SourceErrors):
            lines += cause.lines
        elif item["type"] == "value_error":
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {message}" if field else message)
        elif item["type"] == "missing":
            lines.append(f"{field}: missing")
        elif item["type"] in _MAPPING:
            lines.append(f"{field}: input should be a mapping{_shown(item)}")
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            context = item.get("ctx", {})
            key = str(context.get("discriminator")).strip("'")
            known = context.get("expected_tags")
            lines.append(
                f"{field}: {key} {context['tag']!r} is unknown; the known values are {known}"
                if known
                else f"{field}: {key} is missing"
            )
        else:
            shown = _shown(item)
            # YAML parses yes, 010, 1:30 and 2026-07-26 as types other than text.
            cure = "; put it in quotes" if item["type"] == "string_type" and shown else ""
            lines.append(f"{field}: {item['msg'][0].lower()}{item['msg'][1:]}{shown}{cure}")
    return lines


def _shown(item: Any) -> str:
    return "" if isinstance(item["input"], dict | list) else f" (it is {item['input']!r})"


def _of_one_form(errors: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Reduce the errors of each field with a union type, because pydantic reports errors for every type of the union.

    If the value is a mapping, only the errors inside it are reported. Any other value is reported once, with the values
    that each type accepts.
    """
    forms: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for item in errors:
        at = next((i for i, part in enumerate(item["loc"]) if _ALTERNATIVE.fullmatch(str(part))), None)
        plain = {**item, "loc": tuple(part for i, part in enumerate(item["loc"]) if i != at)}
        field, form = (item["loc"], "") if at is None else (item["loc"][:at], str(item["loc"][at]))
        forms.setdefault(field, {}).setdefault(form, []).append(plain)
    for field, found in forms.items():
        inside = next((those for those in found.values() if those[0]["loc"] != field), None)
        if len(found) == 1 or inside is not None:
            yield from inside or next(iter(found.values()))
        else:
            each = [form[0] for form in found.values()]
            told = ["a mapping" if one["type"] in _MAPPING else one["msg"].removeprefix(_EXPECTED) for one in each]
            yield {**each[0], "type": "forms", "msg": _EXPECTED + " or ".join(told)}


@lru_cache(maxsize=64)
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model. Cached, because a recipe can have hundreds of mistakes and generating a schema
    takes 0.1 s."""
    return TypeAdapter(model).json_schema()


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the schema allows at the location of an unknown key."""
    schema = _schema(model)
    node: Any = schema
    for part in location[:-1]:
        node = _step(schema, node, part)
        if node is None:
            return []
    node = _deref(schema, node)
    return list(node.get("properties", {}))


def _deref(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            node = next((n for n in node["anyOf"] if "$ref" in n), {})
    return node


def _step(schema: dict[str, Any], node: dict[str, Any], part: int | str) -> dict[str, Any] | None:
    node = _deref(schema, node)
    if isinstance(part, int):
        return node.get("items")
    if "oneOf" in node:
        reference = node["discriminator"]["mapping"].get(part)
        return {"$ref": reference} if reference else None
    if part in node.get("properties", {}):
        return node["properties"][part]
    extra = node.get("additionalProperties")
    return extra if isinstance(extra, dict) else None


def nearest(word: str, known: Any) -> str:
    """Return `; did you mean …?` with the known word closest to `word`, or an empty string if no known word is
    close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
