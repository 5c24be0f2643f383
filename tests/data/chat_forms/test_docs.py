"""docs/conversations.md: its examples are read, and it lists every reason for which a record is rejected."""

import ast
import json
import re
from pathlib import Path

from thinkling.data.chat_forms import detect
from thinkling.data.chat_forms.normal import Chat, Pair

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "conversations.md").read_text(encoding="utf-8")
FORMS = ROOT / "src" / "thinkling" / "data" / "chat_forms"


def examples() -> list[tuple[str, dict]]:
    """Form and record of each example."""
    parts = re.split(r"^\*\*`(\w+)`\*\*", PAGE, flags=re.MULTILINE)
    found = []
    for form, text in zip(parts[1::2], parts[2::2], strict=True):
        for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found += [(form, json.loads(line)) for line in block.splitlines()]
    return found


def reasons() -> set[str]:
    """The first argument of every BadRecord, with … for what is filled in; both branches where there are two."""
    found: set[str] = set()
    for path in FORMS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("BadRecord", "from_json"):
                given = node.args[0 if ast.unparse(node.func) == "BadRecord" else 1]
                options = [given.body, given.orelse] if isinstance(given, ast.IfExp) else [given]
                found |= {text for option in options if (text := _text(option))}
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_every_example_is_read_in_its_form() -> None:
    found = examples()
    assert {form for form, _ in found} == set(detect.MARKS)
    for form, record in found:
        assert detect.form_of(record) == form
        assert isinstance(detect.READERS[form](record, False), Pair if form == "preference" else Chat)  # type: ignore[index]


def test_every_reason_is_on_the_page() -> None:
    known = reasons() - {"no …"}  # of a field: each is listed
    assert len(known) > 40
    assert not {reason for reason in known if f"`{reason}`" not in PAGE}
    for fields in detect.MARKS.values():
        assert all(f"`no {field}`" in PAGE for field in fields)
