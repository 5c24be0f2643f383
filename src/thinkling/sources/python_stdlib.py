"""Python's standard library as a source of real text, included in every Python installation and never downloaded.

The source has three parts: the code, its docstrings, and the language reference in ``pydoc_data.topics``. It excludes
tests, installed packages, and files generated when the interpreter was built (``_sysconfigdata*``, ``config-*``), which
contain machine paths. The part ``code`` also excludes ``pydoc_data/topics.py``, whose text is the part ``topics``.
`provenance` identifies the exact text.
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
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from thinkling.data.truth import Matter
from thinkling.errors import UserError
from thinkling.sources.base import DocumentStream, Offer, Quality, Size, Source

if TYPE_CHECKING:
    from thinkling.tasks.problem import Split

Part = Literal["code", "docstrings", "topics"]
TOPICS = "pydoc_data/topics.py"
_SHARES: dict[Part, tuple[float, int | None]] = {"code": (1.0, None), "docstrings": (0.17, 170), "topics": (0.7, 5000)}
"""For each part: bytes of text per byte of its files, and average bytes per text (None: each file is one text)."""
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Text(NamedTuple):
    """A text of the standard library."""

    key: str
    """The file name for code, `file:line` for a docstring (line 0 for a module's docstring), or the name of a topic."""
    text: str
    problem: str | None = None
    """The reason why the text is not used as a document; None if it is used."""


class StdlibSource(Source):
    """Text of Python's standard library: available offline, versioned and free to use."""

    type: Literal["python_stdlib"]
    part: Part
    """Part of the library to read. `code`: the `.py` files under sysconfig's stdlib path, without tests and
    site-packages. `docstrings`: the docstrings in those files. `topics`: the language reference in
    pydoc_data.topics."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"documents"})

    def digests(self) -> dict[str, Any]:
        return provenance(root(), [self.part])

    def provenance(self) -> dict[str, Any]:
        return self.digests()

    def summary(self) -> str:
        return f"{len(files(self.part, root()))} files"

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        library = root()
        names, (share, each) = files(self.part, library), _SHARES[self.part]
        text = share * sum((library / name).stat().st_size for name in names)
        return Size(text, len(names) if each is None else text / each)

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
        records = None if (size := self.estimated_size("documents")) is None else size.records
        pieces = map(read, names)
        return [
            DocumentStream(self.name, self.name, quality, pieces, len(names), "files", matter=matter, n_records=records)
        ]


def root() -> Path:
    """Returns the directory of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def files(part: Part, stdlib: Path) -> list[str]:
    """Returns the sorted names (POSIX, relative to ``stdlib``) of the files from which a part is read.

    Raises UserError if there are none, because some Python distributions do not include the source files.
    """
    names = sorted(_code_files(stdlib))
    if part == "topics":
        names = [TOPICS] if (stdlib / TOPICS).is_file() else []
    if not names:
        raise UserError(
            f"the standard library at {stdlib} has no files for the part {part}; use a complete Python installation"
        )
    return names


def _code_files(stdlib: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(stdlib):
        folders[:] = [f for f in folders if f not in _SKIPPED_FOLDERS and not f.startswith("config-")]
        for name in names:
            relative = (Path(folder) / name).relative_to(stdlib).as_posix()
            if name.endswith(".py") and not name.startswith("_sysconfigdata") and relative != TOPICS:
                yield relative


def texts(part: Part, stdlib: Path, name: str) -> list[Text]:
    """Returns the texts of one file, in order.

    If the file is not valid Python or not in its declared encoding, returns a single `Text` with a `problem`. Raises
    UserError if the file cannot be read.
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
    while queue:  # visits only statements; ast.walk would also visit every expression
        node = queue.pop()
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            line = 0 if isinstance(node, ast.Module) else node.lineno
            found.append((line, Text(f"{name}:{line}", text + "\n")))
        for block in _BLOCKS:
            queue += getattr(node, block, ())
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def _topics(tree: ast.Module) -> list[Text]:
    """Returns the entries of the dictionary ``topics``, which is parsed as a literal and never executed."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "topics" for t in node.targets):
            return [Text(topic, text) for topic, text in sorted(ast.literal_eval(node.value).items())]
    return [Text(TOPICS, "", "defines no topics")]


def provenance(stdlib: Path, parts: Sequence[Part]) -> dict:
    """Returns the provenance of the text: the Python version, and the SHA-256 (hex) of each file of the parts."""
    names = sorted({name for part in parts for name in files(part, stdlib)})
    return {
        "python": platform.python_version(),
        "files": {name: hashlib.sha256(_bytes(stdlib / name)).hexdigest() for name in names},
    }


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); use a complete Python installation") from error
