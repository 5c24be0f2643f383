"""Comments, docstrings and docs cite only pages that a reader of the repository can open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("src", "docs", "benchmarks", "recipes", "tests", "README.md")
SUFFIXES = {".md", ".py", ".toml", ".txt", ".yaml", ".yml"}

# Working notes that are not in the repository. `RECIPE` alone is a placeholder in commands.
ABSENT = re.compile(
    r"\bRECIPE(?:\.md\b|,? ?§|: Nanbeige)|\bfeasibility(?:\.md\b| §)|\bDESIGN\b|\bhouse\.md\b"
    r"|(?<![\w/-])reference/[\w-]+(?:\.md\b| §)"
)
CITATION = re.compile(r"docs/recipe\.md, (?P<quote>\"?)(?=[A-Z])")


def flat(text: str) -> str:
    """The text on one line, so that a citation may be broken between lines."""
    return re.sub(r"\s*\n[ \t]*(?:#(?!#)[ \t]*)?", " ", text)


def absent_pages(text: str) -> list[str]:
    """The citations of pages that are not in the repository."""
    return [found.group() for found in ABSENT.finditer(flat(text))]


def headings() -> list[str]:
    """The section headings of docs/recipe.md."""
    return re.findall(r"^## (.+)$", (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8"), re.MULTILINE)


def unknown_sections(text: str, known: list[str]) -> list[str]:
    """The citations `docs/recipe.md, Section` (or `"Section"`) that name none of the known headings."""
    line = flat(text)
    names = "|".join(re.escape(name) for name in known)
    unknown = []
    for found in CITATION.finditer(line):
        rest = line[found.end() :]
        end = '"' if found["quote"] else r"(?![\w-])"
        if not re.match(f"(?:{names}){end}", rest):
            unknown.append(found.group() + rest[:30])
    return unknown


def texts() -> Iterator[tuple[str, str]]:
    """Path below the root → text, of everything that is checked. This file is left out: it spells the mistakes."""
    for place in PLACES:
        top = ROOT / place
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__).resolve() and "egg-info" not in str(path):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_nothing_cites_a_page_that_is_not_in_the_repository() -> None:
    found = {path: cited for path, text in texts() if (cited := absent_pages(text))}
    assert not found


def test_cited_sections_of_the_recipe_exist() -> None:
    known = headings()
    found = {path: cited for path, text in texts() if (cited := unknown_sections(text, known))}
    assert not found


def test_every_stage_can_cite_its_section() -> None:
    assert headings() == [
        "Model",
        "Curation",
        "Pre-training",
        "Long context",
        "SFT",
        "Refinement",
        "DPD",
        "RL",
        "Evaluation",
        "Choices of ours",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '"""Samples per problem (RECIPE.md §6: avg@16)."""',
        "(default: RECIPE §3)",
        "# as RECIPE\n    # §5 writes it",
        "(RECIPE: Nanbeige4-3B's own protocol)",
        "Defaults: reference/feasibility.md §7.",
        "(feasibility §7)",
        "is not this (reference/curation.md §3)",
        "as DESIGN.md lays down",
        "faults in house.md",
    ],
)
def test_a_citation_of_an_absent_page_is_noticed(text: str) -> None:
    assert absent_pages(text)


@pytest.mark.parametrize(
    "text",
    [
        "thinkling refine RECIPE --set stages.refine.rounds=2",
        'RECIPE: Path = REPOSITORY / "recipes" / "nano.yaml"',
        "see docs/reference/sft.md",
        "the ratio policy/reference and reference/teacher",
        "one reference by the entering model",
    ],
)
def test_what_only_looks_like_a_citation_passes(text: str) -> None:
    assert not absent_pages(text)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("(docs/recipe.md, RL: avg@16)", True),
        ('(docs/recipe.md, "Long context")', True),
        ("(docs/recipe.md,\n    # Choices of ours)", True),
        ("docs/recipe.md, docs/LAB.md", True),
        ("(docs/recipe.md, Midtraining)", False),
        ('(docs/recipe.md, "Long")', False),
        ("(docs/recipe.md, RLHF)", False),
    ],
)
def test_a_section_that_does_not_exist_is_noticed(text: str, known: bool) -> None:
    assert bool(unknown_sections(text, ["Long context", "RL", "Choices of ours"])) != known
