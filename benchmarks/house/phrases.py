"""Phrases that no engineer would write, in README, docs, recipes' comments and the source's docstrings and strings.

    python -m benchmarks.house.phrases

Part of `make lint`: prints file, line, phrase and what to write instead, and exits with 1 if there are any. Code in
pages (fenced blocks and `spans`) is not read. docs.language: number of hits. Last line: JSON.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/*.md")
RECIPES = ("recipes/*.yaml",)

_THINGS = (
    "answers batches bytes calls cards characters chunks conversations copies documents draws examples faults"
    " files floats groups lines losses messages milliseconds minutes ms nats numbers pages pairs passes"
    " problems processes prompts rates requests rollouts rounds rows runs samples seconds sequences slots steps"
    " threads times tokens turns updates words workers one two three four five MB GB KB"
).replace(" ", "|")
_COUNTED = (
    "answer batch byte card chunk conversation core day document epoch example family file GPU group hour kind"
    " layer line message minibatch minute model opponent page pair phase problem process program prompt"
    " question rank reply request role rollout row run sample second sequence source split stage step task"
    " token turn update worker"
).replace(" ", "|")

PHRASES: dict[str, str] = {
    rf"\b(?:{_THINGS}) an? (?:{_COUNTED})\b(?! (?:of|that|with|from|in|is|has|to)\b)": "per",
    r"(?<!to )(?<!take a )\bstands\b(?! for\b)": "is",
    r"\bstands?\b (?:beside|in|at|there|above|below|here)\b": "is",
    r"(?<!there )(?<!There )\bis no\b(?! longer\b| more\b)": "is not a",
    r"(?<!there )(?<!There )\bare no\b(?! longer\b| more\b)": "are not",
    r"\btells\b": "shows, says, reports",
    r"\bbears\b": "has, carries",
    r"(?<!the )\brests? on\b": "depends on",
    r"\bgives\b": "returns, produces, results in",
    r"\bcomes? to\b": "is, amounts to",
    r"\bso many\b": "this many, up to N",
    r"\bput aside\b": "set aside, quarantined",
    r"\bmended\b": "fixed",
    r"\bturned away\b": "rejected",
    r"\bfor want of\b": "without",
    r"\bwithout a word\b": "silently",
    r"\bthe like\b": "similar",
    r"\b(?:is|are|was|were) (?:said|told)\b": "is reported",
    r"\bgo(?:es)? on from\b": "resumes from",
}
"""Pattern → what is usually meant."""

EXEMPT = {
    "src/thinkling/quality/tags.py": "the annotator's prompt",
    "src/thinkling/stages/refine/words.py": "prompts of refine",
    "src/thinkling/data/boilerplate.py": "words that mark boilerplate",
}
"""Files whose strings are data."""

_COMPILED = [(re.compile(pattern), better) for pattern, better in PHRASES.items()]


class Hit(NamedTuple):
    file: str
    line: int
    phrase: str
    better: str


def hits(text: str) -> Iterator[tuple[int, str, str]]:
    """Offset, phrase and what to write instead, for every banned phrase of a text. A line break counts as a space."""
    flat = re.sub(r"\s", " ", text)
    for pattern, better in _COMPILED:
        for match in pattern.finditer(flat):
            yield match.start(), match[0], better


def prose_of_page(text: str) -> str:
    """A Markdown page with its code blanked out, lines kept."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", "·", match[0])

    return re.sub(r"`[^`\n]+`", blank, re.sub(r"(?ms)^```.*?^```", blank, text))


def prose_of_recipe(text: str) -> str:
    """The comments of a YAML file, lines kept."""
    return "\n".join("#".join(line.split("#")[1:]) if "#" in line else "" for line in text.split("\n"))


def prose_of_source(text: str) -> Iterator[tuple[int, str]]:
    """First line and text of each run of comments, docstring and string with a space in it."""
    last, block = 0, []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield last - len(block) + 1, "\n".join(block)
                block = []
            last = token.start[0]
            block.append(token.string.lstrip("# "))
    if block:
        yield last - len(block) + 1, "\n".join(block)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def found(root: Path = ROOT) -> list[Hit]:
    """Every banned phrase of the project's prose."""
    places: list[tuple[Path, int, str]] = []
    for pattern in PAGES:
        places += [(page, 1, prose_of_page(page.read_text())) for page in sorted(root.glob(pattern))]
    for pattern in RECIPES:
        places += [(recipe, 1, prose_of_recipe(recipe.read_text())) for recipe in sorted(root.glob(pattern))]
    sources = [s for s in sorted((root / "src").rglob("*.py")) if str(s.relative_to(root)) not in EXEMPT]
    for source in sources:
        places += [(source, line, text) for line, text in prose_of_source(source.read_text())]
    return [
        Hit(str(file.relative_to(root)), line + text.count("\n", 0, offset), phrase, better)
        for file, line, text in places
        for offset, phrase, better in hits(text)
    ]


def main() -> None:
    every = found()
    for hit in every:
        print(f'{hit.file}:{hit.line}: "{hit.phrase}": write "{hit.better}"', file=sys.stderr)
    print(json.dumps({"measurements": {"docs.language": {"value": len(every), "n": len(PHRASES), "unit": "hits"}}}))
    raise SystemExit(1 if every else 0)


if __name__ == "__main__":
    main()
