"""Fields in the docs' YAML examples and tables exist under these names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from thinkling.pipeline.recipe import KINDS, Recipe, Stage
from thinkling.sources.base import TYPES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if path.stem != "LAB")
STAGE: TypeAdapter[Any] = TypeAdapter(Stage)
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\| field \|.*\n\|[-| ]+\n((?:\|.*\n)+)", re.MULTILINE)


def unknown(check: Any, value: Any) -> list[str]:
    """Keys and words that the schema does not know; what is left out or only hinted at (`…`) is no mistake."""
    try:
        check(value)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}"
            for e in error.errors()
            if e["type"] in ("extra_forbidden", "literal_error") and "…" not in f"{e['loc']}{e['input']}"
        ]
    return []


def mistakes(page: str, text: str) -> Iterator[str]:
    """What is unknown in the YAML examples of a page; a bare field belongs to the page's kind of stage."""
    for block in _BLOCK.findall(text):
        for key, value in yaml.safe_load(block).items():
            stages = value.values() if key == "stages" else [value]
            if all(isinstance(stage, dict) and "kind" in stage for stage in stages):
                for stage in stages:
                    yield from unknown(STAGE.validate_python, stage)
            elif page in KINDS and key in KINDS[page].model_fields:
                yield from unknown(STAGE.validate_python, {"kind": page, key: value})
            elif key in Recipe.model_fields:
                yield from unknown(Recipe.model_validate, {"name": "x", key: value})
            else:
                yield f"{key}: no field of {page} and none of a recipe"


def properties(schema: Any) -> Iterator[str]:
    """Names of all fields in a JSON schema, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


def fields() -> set[str]:
    """Names of all fields of stages and sources."""
    sources = {name for kind in TYPES.names() for name in properties(TYPES.resolve(kind).model_json_schema())}
    return sources | set(properties(STAGE.json_schema()))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_yaml_examples_use_fields_that_exist(page: Path) -> None:
    assert not list(mistakes(page.stem, page.read_text(encoding="utf-8")))


def test_tables_of_fields_name_fields_that_exist() -> None:
    named = {
        (page.stem, name)
        for page in PAGES
        for table in _TABLE.findall(page.read_text(encoding="utf-8"))
        for name in re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    }
    assert len(named) > 10
    known = fields()
    assert not {(page, name) for page, name in named if name not in known}


@pytest.mark.parametrize(
    ("example", "mistake"),
    [
        ("sft:\n  kind: sft\n  row_length: 8\n", "row_length"),
        ("batch_rows: 8\n", "batch_rows"),
        ("examples: {source: a, corrupted: 0.1}\n", "corrupted"),
        ("rl:\n  kind: rl\n  problems: [{source: a, reward: preference}]\n", "reward"),
        ("tokenizer: {vocabulary: 512}\n", "vocabulary"),
    ],
)
def test_F13_a_stale_name_is_noticed(example: str, mistake: str) -> None:
    assert any(mistake in line for line in mistakes("sft", f"```yaml\n{example}```\n"))
