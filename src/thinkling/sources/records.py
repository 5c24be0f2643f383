"""The base class of sources that read the user's own problems or conversations from files or from the Hub."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from thinkling.data.hub import is_repo, snapshot
from thinkling.errors import UserError
from thinkling.sources.base import Offer, Size, Source

if TYPE_CHECKING:
    from thinkling.data.readers import RawRecord
    from thinkling.tasks.problem import Split

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow")
SPLITS = ("train", "validation", "test", "dev", "val", "valid", "eval")
"""Common names for the splits of data sets."""
_METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
_FORMS = ".jsonl, .json, .parquet or .arrow files (text also as .gz, .zst, .bz2, .xz), or directories of such files"


@dataclass(frozen=True)
class Found:
    """The files found for one entry of a source's paths."""

    files: list[Path]
    root: Path | None = None
    """The directory in which the files were found; None for a single file or a pattern."""
    label: str = ""
    """`organization/name@commit` for files from the Hub."""
    links: int = 0
    """Number of links that lead out of the directory. Such links are not followed."""

    def name(self, file: Path) -> str:
        """Returns the file's name in digests. For a file from the Hub, it does not depend on the cache location."""
        return f"{self.label}/{file.relative_to(self.root)}" if self.label and self.root else str(file)


class RecordsSource(Source):
    """Locates and reads records. Source types derive from this class and define how a record is interpreted."""

    path: str | None = None
    """A file, a directory, or a pattern such as `data/*.jsonl`, relative to the working directory. If no such local
    path exists, `path` is the name of a data set on the Hugging Face Hub, such as `openai/gsm8k`."""
    paths: list[str] = Field(default_factory=list)
    """Several paths, for use instead of `path`. The files are read in the order of the list."""
    revision: str | None = None
    """Commit, tag or branch of a data set on the Hub. If not set, the main branch is used. The resolved commit is part
    of the hash of stages that use the source."""
    subset: str | None = None
    """Folder to read, within a directory or within a data set on the Hub, where a subset is often called a
    configuration. If not set, all folders are read. Required for a data set that has several subsets and is on the Hub
    or was saved by the package `datasets`."""
    split: str | None = None
    """Split to read: only files with this word in their path are read. If not set, all files are read. Required for a
    data set that has several splits and is on the Hub or was saved by the package `datasets`."""
    records_key: str | None = None
    """Key of the list of records in a .json file that contains a single object. If not set, common keys such as `data`
    are tried."""

    @model_validator(mode="after")
    def _has_paths(self) -> Self:
        if (self.path is None) == (not self.paths):
            raise ValueError("path: set exactly one of path and paths (a list)")
        if self.revision is not None and not any(is_repo(entry) for entry in self.entries()):
            raise ValueError(
                "revision: only valid for a data set on the Hub; no path is a Hub name, so remove revision"
            )
        return self

    def entries(self) -> list[str]:
        """Returns the paths as written in the recipe."""
        return [self.path] if self.path is not None else self.paths

    def find(self, entries: list[str], split: str | None) -> list[Found]:
        """Returns the files of each entry, in the order of the entries. A file found twice is only listed once.

        The files of one entry are sorted. Raises UserError if an entry has no files, or if it has several subsets or
        splits and none is chosen.
        """
        seen: set[Path] = set()
        found = []
        for entry in entries:
            one = self._find(entry, split)
            new = [file for file in one.files if file not in seen]
            seen.update(new)
            found.append(Found(new, one.root, one.label, one.links))
        return found

    def files(self) -> list[Path]:
        """Returns the files from which records are read."""
        return [file for found in self.find(self.entries(), self.split) for file in found.files]

    def records(self) -> Iterator[RawRecord]:
        """Yields all records in a fixed order.

        A record that cannot be parsed is yielded with its error; the caller must add it to `self.ledger`.
        """
        return self.read(self.files())

    def read(self, files: list[Path]) -> Iterator[RawRecord]:
        """Yields the records of the given files."""
        from thinkling.data.arrow_files import read_arrow
        from thinkling.data.json_files import read_json
        from thinkling.data.readers import read_jsonl, read_parquet

        for file in files:
            match ending(file.name):
                case ".parquet":
                    yield from read_parquet(file)
                case ".arrow":
                    yield from read_arrow(file)
                case ".json":
                    yield from read_json(file, self.records_key)
                case _:
                    yield from read_jsonl(file)

    def estimated_size(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> Size | None:
        if offer == "problems":
            return super().estimated_size(offer, split, n, families)
        from thinkling.data import sizes

        size = Size(*sizes.estimate(self.files(), lambda file: self.read([file])))
        return size if n is None or n >= size.records else Size(size.bytes * n / size.records, n)

    def digests(self) -> dict[str, Any]:
        return self.digests_of(self.find(self.entries(), self.split))

    def digests_of(self, found: list[Found]) -> dict[str, str]:
        """Returns the SHA-256 of each file by its name."""
        from thinkling.data.artifact import file_digest

        return {one.name(file): file_digest(file) for one in found for file in one.files}

    def summary(self) -> str | None:
        found = self.find(self.entries(), self.split)
        n, links = sum(len(one.files) for one in found), sum(one.links for one in found)
        labels = "".join(f", {one.label}" for one in found if one.label)
        skipped = f" ({links} links out of their directory skipped)" if links else ""
        return f"{n} file{'s' * (n != 1)}{labels}{skipped}"

    def _find(self, entry: str, split: str | None) -> Found:
        where = f"sources.{self.name}: {entry}"
        path = Path(entry).expanduser()
        if path.is_file():
            if not ending(path.name):
                raise UserError(f"{where}: unsupported format; use {_FORMS}")
            return Found([path])
        if path.is_dir():
            return self._chosen(where, _walk(path), split)
        if is_repo(entry) and not ending(path.name):  # `data/chats.jsonl` is a missing file, not a Hub name
            return self._on_hub(where, entry, split)
        if glob.has_magic(entry):
            return self._chosen(where, _matching(str(path)), split)
        raise UserError(f"{where}: no such file or directory; correct the path")

    def _on_hub(self, where: str, repo: str, split: str | None) -> Found:
        copy = snapshot(repo, "dataset", self.revision)
        # In the cache, these files are links into another folder of the same repository.
        found = _walk(copy.directory, copy.directory.parent.parent)
        return self._chosen(where, Found(found.files, found.root, f"{repo}@{copy.commit}"), split)

    def _chosen(self, where: str, found: Found, split: str | None) -> Found:
        """Returns the files of the chosen subset and split.

        Raises UserError if a data set has several subsets or splits and none is chosen.
        """
        files, root = found.files, found.root
        if root is not None and self.subset is not None:
            files = [file for file in files if _inside(file, root, self.subset)]
            if not files:
                there = sorted({part for file in found.files for part in _folders(file, root)})
                raise UserError(f"{where}: no files of subset {self.subset!r}; the subsets are {_listed(there)}")
        if split is not None:
            whole = [file for file in files if split in words(file, root)]
            chosen = whole or [file for file in files if split in words(file, root, separators="[^0-9A-Za-z]+")]
            if not chosen:
                raise UserError(f"{where}: no files of split {split!r}; the splits are {_listed(_splits(files, root))}")
            files = chosen
        if not files:
            raise UserError(f"{where}: no files in a supported format; use {_FORMS}")
        if root is not None and (found.label or (root / "dataset_dict.json").is_file()):
            self._refuse_mixture(where, files, root, split)
        return Found(files, root, found.label, found.links)

    def _refuse_mixture(self, where: str, files: list[Path], root: Path, split: str | None) -> None:
        parts = _splits(files, root)
        if split is None and (root / "dataset_dict.json").is_file():
            parts = sorted({file.relative_to(root).parts[0] for file in files})
        if split is None and len(parts) > 1:
            raise UserError(f"{where}: the data set has the splits {_listed(parts)}; choose one with split")
        subsets = sorted({_subset(file, root) for file in files})
        if self.subset is None and len(subsets) > 1:
            raise UserError(f"{where}: the data set has the subsets {_listed(subsets)}; choose one with subset")


def ending(name: str) -> str:
    """Returns the extension that identifies the file format, ignoring compression; empty if unsupported."""
    for compression in (".gz", ".zst", ".bz2", ".xz"):
        if name.endswith(compression):
            text = Path(name.removesuffix(compression)).suffix
            return text if text in (".jsonl", ".ndjson", ".json") else ""
    suffix = Path(name).suffix
    return suffix if suffix in ENDINGS and name not in _METADATA else ""


def words(file: Path, root: Path | None, separators: str = "[^0-9A-Za-z_]+") -> set[str]:
    """Returns the words in a file's path within its directory: the folder names and the parts of the file name."""
    relative = file.relative_to(root).as_posix() if root is not None else file.name
    return {*re.split(separators, relative), *relative.split("/")[:-1]}


def _splits(files: list[Path], root: Path | None) -> list[str]:
    """Returns the splits indicated by the file names, such as `train` or `train_sft`."""
    found = {word for file in files for word in words(file, root) if word.partition("_")[0] in SPLITS}
    finer = {word for file in files for word in words(file, root, "[^0-9A-Za-z]+") if word in SPLITS}
    return sorted(found or finer)


def _refuse_packed(path: Path) -> None:
    """Raises UserError if the file contains records in an unsupported compression."""
    from thinkling.data.readers import refuse_unreadable

    if ending(path.stem):
        refuse_unreadable(path)


def _walk(root: Path, tree: Path | None = None) -> Found:
    """Returns the files in a directory, except hidden files and links that lead out of `tree` (`root` if None)."""
    from thinkling.data.arrow_files import STATE, saved_files

    tree = (tree or root).resolve()
    files, links = [], 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        links += sum((Path(folder) / f).is_symlink() for f in folders)  # os.walk does not follow links
        if STATE in names:
            files += saved_files(Path(folder))
            continue
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if not ending(name):
                _refuse_packed(path)
                continue
            if path.resolve().is_relative_to(tree) and path.is_file():
                files.append(path)
            else:
                links += 1
    return Found(sorted(files), root, links=links)


def _matching(pattern: str) -> Found:
    """Returns the files that match a pattern, except links out of the directory before the first wildcard."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    tree = Path(*parts[:fixed]).resolve()
    files, links = [], 0
    for path in sorted(map(Path, glob.glob(pattern, recursive=True))):
        if not path.is_file():
            continue
        if not ending(path.name):
            _refuse_packed(path)
            continue
        if path.resolve().is_relative_to(tree):
            files.append(path)
        else:
            links += 1
    return Found(files, links=links)


def _inside(file: Path, root: Path, folder: str) -> bool:
    return file.relative_to(root).as_posix().startswith(folder.strip("/") + "/")


def _folders(file: Path, root: Path) -> list[str]:
    return [part for part in file.relative_to(root).parts[:-1] if part not in SPLITS]


def _subset(file: Path, root: Path) -> str:
    return "/".join(_folders(file, root)) or "."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"
