"""The standard library as a source."""

import hashlib
import platform
from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.sources import python_stdlib as stdlib


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small standard library with everything that must be left out."""
    written = {
        "b.py": '"""Module b."""\n\nclass C:\n    """Class C.\n\n    Indented.\n    """\n\n    if True:\n'
        '        def f(self):\n            "Method f."\n\n    async def g(self): ...\n',
        "a/__init__.py": "x = 1\n",
        "a/tests/t.py": "left_out = 1\n",
        "test/t.py": "left_out = 1\n",
        "idlelib/idle_test/t.py": "left_out = 1\n",
        "site-packages/p/p.py": "left_out = 1\n",
        "dist-packages/p.py": "left_out = 1\n",
        "config-3.11-x/python-config.py": "left_out = 1\n",
        "_sysconfigdata__linux.py": "left_out = 1\n",
        "__pycache__/b.py": "left_out = 1\n",
        "data.txt": "left_out = 1\n",
        "pydoc_data/topics.py": "# comment\ntopics = {'z': 'last\\n', 'break': 'first\\n'}\n",
    }
    for name, text in written.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_code_is_the_sources_without_tests_and_packages(library: Path) -> None:
    assert stdlib.files("code", library) == ["a/__init__.py", "b.py"]
    assert stdlib.texts("code", library, "a/__init__.py") == [stdlib.Text("a/__init__.py", "x = 1\n")]


def test_docstrings_come_cleaned_in_order_of_line_at_any_depth(library: Path) -> None:
    found = [(text.key, text.text) for text in stdlib.texts("docstrings", library, "b.py")]
    assert found == [("b.py:0", "Module b.\n"), ("b.py:3", "Class C.\n\nIndented.\n"), ("b.py:10", "Method f.\n")]
    assert stdlib.texts("docstrings", library, "a/__init__.py") == []


def test_topics_are_read_as_a_literal_and_sorted(library: Path) -> None:
    (name,) = stdlib.files("topics", library)
    assert [(t.key, t.text) for t in stdlib.texts("topics", library, name)] == [("break", "first\n"), ("z", "last\n")]


def test_other_encodings_are_read_and_broken_files_are_named_with_a_reason(library: Path) -> None:
    (library / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    (library / "bytes.py").write_bytes(b"name = '\xff'\n")
    (library / "syntax.py").write_bytes(b"def (:\n")
    assert "é" in stdlib.texts("code", library, "latin.py")[0].text
    assert stdlib.texts("code", library, "bytes.py")[0].problem == "not Python"
    assert stdlib.texts("docstrings", library, "syntax.py")[0].problem == "not Python"
    assert stdlib.texts("code", library, "syntax.py")[0].problem is None


def test_provenance_has_the_version_and_a_digest_of_each_file(library: Path) -> None:
    recorded = stdlib.provenance(library, ["docstrings", "topics"])
    assert recorded["python"] == platform.python_version()
    assert list(recorded["files"]) == ["a/__init__.py", "b.py", "pydoc_data/topics.py"]
    assert recorded["files"]["b.py"] == hashlib.sha256((library / "b.py").read_bytes()).hexdigest()


def test_a_python_without_sources_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files for the part topics"):
        stdlib.files("topics", tmp_path)
    with pytest.raises(UserError, match=r"gone\.py: cannot be read"):
        stdlib.texts("code", tmp_path, "gone.py")


def test_the_real_library_gives_what_recipes_count_on() -> None:
    names = stdlib.files("code", stdlib.root())
    assert "json/decoder.py" in names
    assert not [n for n in names if "/test/" in n or "site-packages" in n or "_sysconfigdata" in n]
    decoder = stdlib.texts("docstrings", stdlib.root(), "json/decoder.py")
    assert any(text.text.startswith("Simple JSON") for text in decoder)
    topics = stdlib.texts("topics", stdlib.root(), stdlib.TOPICS)
    assert len(topics) > 50
    assert all(text.text for text in topics)
