"""The standard library as a source of real text: every Python brings it along, so nothing is downloaded.

Three parts: the source code, the docstrings in it, and the language reference in ``pydoc_data.topics``. Left out are
tests, installed packages, what the build of this one interpreter wrote (``_sysconfigdata*``, ``config-*``: paths of the
machine), and ``pydoc_data/topics.py`` as code, since its text is the part ``topics``. `provenance` records which text
it was.
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
"""Of a part the bytes of text per byte of its files, and the bytes per text (None: each file is one)."""
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Text(NamedTuple):
    """A text of the standard library."""

    key: str
    """The file; with the line for a docstring (0: the module's); the topic's name for a topic."""
    text: str
    problem: str | None = None
    """Why the text is no document, where it is none."""


class StdlibSource(Source):
    """Text that every Python brings along: offline, versioned, free to use."""

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
    """The standard library of the Python that runs."""
    return Path(sysconfig.get_path("stdlib"))


def files(part: Part, stdlib: Path) -> list[str]:
    """Names (POSIX, relative to ``stdlib``) of the files that a part is read from, sorted.

    Raises UserError if there are none: some distributions ship no sources.
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

    Raises UserError if the file cannot be read. One that is no Python, or not in its declared encoding, gives a single
    `Text` with a problem.
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
    while queue:  # statements only: ast.walk would visit every expression as well
        node = queue.pop()
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            line = 0 if isinstance(node, ast.Module) else node.lineno
            found.append((line, Text(f"{name}:{line}", text + "\n")))
        for block in _BLOCKS:
            queue += getattr(node, block, ())
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def _topics(tree: ast.Module) -> list[Text]:
    """The dictionary ``topics``, read as a literal: the file is data and is not run."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "topics" for t in node.targets):
            return [Text(topic, text) for topic, text in sorted(ast.literal_eval(node.value).items())]
    return [Text(TOPICS, "", "defines no topics")]


def provenance(stdlib: Path, parts: Sequence[Part]) -> dict:
    """Which text it was: version of Python, and SHA-256 (hex) of each file that the parts are read from."""
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
