"""Twenty passages of README, docs, docstrings and messages, drawn with seed 0, for a reader to mark.

    python -m benchmarks.house.passages

A passage is a paragraph or table row of a page (ten of them), the first paragraph of a docstring (five) or a message of
UserError (five). Passages where a reader stumbled are listed in docs/LAB.md.
"""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path

from benchmarks.house.phrases import PAGES, ROOT

SEED = 0
EACH = 5
FEWEST_WORDS = 12
GENERATED = ("docs/claims.md", "docs/LAB.md")


def paragraphs(root: Path) -> list[str]:
    """Paragraphs of pages, without code blocks and generated pages."""
    found = []
    for pattern in PAGES:
        for page in sorted(root.glob(pattern)):
            name = str(page.relative_to(root))
            if name not in GENERATED:
                text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
                found += [f"{name}: {' '.join(part.split())}" for part in re.split(r"\n\s*\n|\n(?=[-*|] |\d\. )", text)]
    return found


def docstrings(root: Path) -> list[str]:
    """First paragraphs of docstrings, including those below assignments (fields)."""
    found = []
    for source in sorted((root / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                first = node.value.value.strip().split("\n\n")[0]
                found.append(f"{source.relative_to(root)}:{node.lineno}: {' '.join(first.split())}")
    return found


def messages(root: Path) -> list[str]:
    """Messages of UserErrors, with … in place of the values filled in."""
    found = []
    for source in sorted((root / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args:
                text = _text(node.args[0])
                found.append(f"{source.relative_to(root)}:{node.lineno}: {text}")
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def drawn(root: Path = ROOT) -> list[str]:
    """The passages; the same text always yields the same passages."""
    kinds = [paragraphs(root), docstrings(root), messages(root)]
    rng = random.Random(SEED)
    shares = (EACH * 2, EACH, EACH)
    return [
        passage
        for kind, n in zip(kinds, shares, strict=True)
        for passage in rng.sample([one for one in kind if len(one.split()) >= FEWEST_WORDS], n)
    ]


def main() -> None:
    for number, passage in enumerate(drawn(), start=1):
        print(f"{number}. {passage}")


if __name__ == "__main__":
    main()
