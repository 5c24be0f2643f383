"""The standard library as a source of real text: it comes with every Python, so nothing is downloaded.

It has three parts: the source code, its docstrings, and the language reference in ``pydoc_data.topics``. Excluded are
tests, installed packages, files written when this interpreter was built (``_sysconfigdata*``, ``config-*``, which hold
machine paths), and ``pydoc_data/topics.py`` as code, since its text is the part ``topics``. `provenance` records the
exact text.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from thinkling.data.truth import Matter
from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream, Offer, Quality, Source

Part = Literal["code", "docstrings", "topics"]
TOPICS = "pydoc_data/topics.py"
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Text(NamedTuple):
    """A text of the standard library."""

    key: str
    """The file; for a docstring with its line (0: the module's); for a topic its name."""
    text: str
    problem: str | None = None
    """Why the text is not a document, if it is not one."""


class StdlibSource(Source):
    """Text that comes with every Python: offline, versioned, free to use."""

    type: Literal["python_stdlib"]
    part: Part
    """`code`: the `.py` files under sysconfig's stdlib path, without tests and site-packages; `docstrings`: the
    docstrings in them; `topics`: the language reference in pydoc_data.topics."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"documents"})

    def digests(self) -> dict[str, Any]:
        return provenance(root(), [self.part])

    def provenance(self) -> dict[str, Any]:
        return self.digests()

    def summary(self) -> str:
        return f"{len(files(self.part, root()))} files"

    def documents(self, quality: Quality, seed: int) -> list[DocumentStream]:
        from thinkling.data.readers import RawRecord

        library = root()
        names = files(self.part, library)

        def read(file: str) -> Iterator[RawRecord]:
            for text in texts(self.part, library, file):
                origin = f"{self.name}/{text.key}"
                if text.problem:
                    yield RawRecord({}, origin, text.problem, text.text)
                else:
                    yield RawRecord({"id": text.key, "text": text.text}, origin)

        matter: Matter = "code" if self.part == "code" else "prose"
        return [DocumentStream(self.name, self.name, quality, map(read, names), len(names), "files", matter=matter)]


def root() -> Path:
    """The standard library of the running Python."""
    return Path(sysconfig.get_path("stdlib"))


def files(part: Part, stdlib: Path) -> list[str]:
    """Names (POSIX, relative to ``stdlib``) of the files that a part is read from, sorted.

    Raises UserError if there are none: some distributions do not ship sources.
    """
    names = sorted(_code_files(stdlib))
    if part == "topics":
        names = [TOPICS] if (stdlib / TOPICS).is_file() else []
    if not names:
        raise UserError(f"the standard library at {stdlib} has no files for part {part}: use a complete Python")
    return names


def _code_files(stdlib: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(stdlib):
        folders[:] = [f for f in folders if f not in _SKIPPED_FOLDERS and not f.startswith("config-")]
        for name in names:
            relative = (Path(folder) / name).relative_to(stdlib).as_posix()
            if name.endswith(".py") and not name.startswith("_sysconfigdata") and relative != TOPICS:
                yield relative


def texts(part: Part, stdlib: Path, name: str) -> list[Text]:
    """The texts of one file, in order.

    Raises UserError if the file cannot be read. If it is not valid Python, or not in its declared encoding, the result
    is a single `Text` with a problem.
    """
    content = _bytes(stdlib / name)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        source = io.StringIO(content.decode(encoding), newline=None).read()
        if part == "code":
            return [Text(name, source)]
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return [Text(name, content.decode("utf-8", "replace"), "not Python")]
    return _topics(tree) if part == "topics" else _docstrings(name, tree)


def _docstrings(name: str, tree: ast.Module) -> list[Text]:
    found = []
    queue: list[ast.AST] = [tree]
    while queue:  # statements only: ast.walk would also visit every expression
        node = queue.pop()
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            line = 0 if isinstance(node, ast.Module) else node.lineno
            found.append((line, Text(f"{name}:{line}", text + "\n")))
        for block in _BLOCKS:
            queue += getattr(node, block, ())
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def _topics(tree: ast.Module) -> list[Text]:
    """The dictionary ``topics``, parsed as a literal: the file is data and is not executed."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "topics" for t in node.targets):
            return [Text(topic, text) for topic, text in sorted(ast.literal_eval(node.value).items())]
    return [Text(TOPICS, "", "defines no topics")]


def provenance(stdlib: Path, parts: Sequence[Part]) -> dict:
    """Identifies the text: Python version, and SHA-256 (hex) of each file that the parts are read from."""
    names = sorted({name for part in parts for name in files(part, stdlib)})
    return {
        "python": platform.python_version(),
        "files": {name: hashlib.sha256(_bytes(stdlib / name)).hexdigest() for name in names},
    }


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
