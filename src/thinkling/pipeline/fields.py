"""The `fields` command: documentation of all recipe fields, generated from the schema and its docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thinkling.errors import UserError
from thinkling.pipeline.mistakes import nearest
from thinkling.pipeline.recipe import KINDS, Recipe
from thinkling.sources.base import TYPES

_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
_PARTS = ("recipe.model", "recipe.tokenizer", "recipe.hardware", "recipe.trackers")
_DEPTH = 3
_FLAT = ("kind", "type")


def kinds() -> dict[str, list[str]]:
    """Map each heading to the kinds whose fields can be shown."""
    return {
        "stage kinds": list(KINDS),
        "source types": [name for name in TYPES.names() if _is_current(name)],
        "the rest of a recipe": ["recipe", *_PARTS],
    }


def _is_current(source_type: str) -> bool:
    """Whether a source type is current. Old names are registered only so that an error can report the new name."""
    accepted = typing.get_args(TYPES.resolve(source_type).model_fields["type"].annotation)
    return not accepted or source_type in accepted


def overview() -> Iterator[str]:
    """Yield the lines of a list of all kinds, each with the first sentence of its docstring."""
    for heading, names in kinds().items():
        yield f"{heading}:"
        for name in names:
            yield from _wrapped(f"{name:<22}{_sentence(schema(name))}", "  ", " " * 24)
    yield "`thinkling fields KIND` shows the fields of a kind."


def schema(kind: str) -> type[BaseModel]:
    """Return the class that defines the fields of a kind. Raises UserError if the kind is unknown."""
    if kind in KINDS:
        return KINDS[kind]
    if kind == "recipe":
        return Recipe
    if kind in _PARTS:
        return next(_models(Recipe.model_fields[kind.removeprefix("recipe.")].annotation))
    if kind in TYPES:
        return TYPES.resolve(kind)
    known = [name for names in kinds().values() for name in names]
    raise UserError(f"{kind}: unknown kind{nearest(kind, known)}; the kinds are {', '.join(known)}")


def describe(kind: str) -> Iterator[str]:
    """Yield the lines that document a kind: for each field its type, its default and its docstring.

    Nested fields have dotted names.
    """
    found = schema(kind)
    where = {True: f"stages.NAME (kind: {kind})", False: f"sources.NAME (type: {kind})"}
    yield where[kind in KINDS] if kind in KINDS or kind in TYPES else kind
    yield from _wrapped(_plain(inspect.getdoc(found) or ""), "  ", "  ")
    roles: Mapping[str, str] = getattr(found, "roles", {})
    if roles:
        listed = ", ".join(f"{r.rstrip('?')}{' (optional)' if r.endswith('?') else ''}: {k}" for r, k in roles.items())
        yield from _wrapped(f"inputs are {listed}", "  ", "  ")
    yield ""
    yield from _fields(found, "", (found,))


def page() -> Iterator[str]:
    """Yield the lines of docs/reference.md, which documents every kind and its fields."""
    yield "# Reference: every field of a recipe"
    yield ""
    yield "Written by `thinkling fields --markdown` from the schema that checks recipes. In a terminal,"
    yield "`thinkling fields KIND` prints one section of it. Names with dots are nested; `0` is an item of a list."
    for heading, names in kinds().items():
        yield from ("", f"## {heading.capitalize()}")
        for _, alike in groupby(names, schema):
            first, *others = alike
            yield from ("", f"### {', '.join([first, *others])}", "", "```text", *describe(first), "```")


def _fields(model: type[BaseModel], prefix: str, above: tuple[type[BaseModel], ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in _FLAT and not prefix:
            continue
        yield from _wrapped(f"{prefix}{name}: {_type(field)}  {_default(field)}", "", "    ")
        yield from _wrapped(_plain(field.description or ""), "    ", "    ")
        if model is Recipe:
            continue
        for nested in _models(field.annotation):
            if nested not in above and len(above) < _DEPTH:
                many = typing.get_origin(_bare(field.annotation)) is list
                yield from _fields(nested, f"{prefix}{name}.{'0.' if many else ''}", (*above, nested))


def _bare(annotation: Any) -> Any:
    """Return the annotation without `| None` and without the metadata of `Annotated`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        left = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _bare(left[0]) if len(left) == 1 else annotation
    return annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models(part)


def _type(field: FieldInfo) -> str:
    return " ".join([_spelt(field.annotation), *_bounds(field.metadata)])


def _bounds(metadata: Any) -> Iterator[str]:
    for one in metadata:
        if type(one) in _SIGNS:
            sign, attribute = _SIGNS[type(one)]
            yield f"{sign} {getattr(one, attribute):g}"
        elif isinstance(one, MinLen | MaxLen):
            yield f"at least {one.min_length}" if isinstance(one, MinLen) else f"at most {one.max_length}"


def _spelt(annotation: Any) -> str:
    """Return the name of a type in the vocabulary of YAML."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join([_spelt(parts[0]), *_bounds(parts[1:])])
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _spelt(part) for part in parts)
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if origin in (list, tuple):
        return f"list of {', '.join(_spelt(part) for part in parts if part is not Ellipsis)}"
    if origin is dict:
        return f"mapping of {_spelt(parts[0])} to {_spelt(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true | false", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "(required)"
    if isinstance(value, BaseModel):
        return "(default: those of its fields)"
    shown = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else None
    return f"(default: {shown or (value if value != '' else 'empty')})"


def _sentence(model: type[BaseModel]) -> str:
    return re.split(r"(?<=\.)\s", _plain(inspect.getdoc(model) or ""), maxsplit=1)[0]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
