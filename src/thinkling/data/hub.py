"""Downloads data sets and models from the Hugging Face Hub by name, pinned to a commit.

Only data files and weights are downloaded, never pickle files or code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from thinkling.errors import UserError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""Matches a name on the Hub, `organization/name`."""
_TEXTS = (".json", ".jsonl", ".ndjson")
DATASET_FILES = (
    *("*.parquet", "*.arrow"),
    *(f"*{text}{compression}" for text in _TEXTS for compression in ("", ".gz", ".zst", ".bz2", ".xz")),
)
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt")
_LEFT_OUT = {"dataset": [".*", "*/.*"], "model": [".*", "*/.*", "onnx/*", "original/*", "openvino/*"]}
"""Patterns of files that are not downloaded, such as weights in formats for other programs."""


@dataclass(frozen=True)
class Snapshot:
    """A repository's files at one commit, in the local cache."""

    directory: Path
    commit: str
    """Full id of the commit."""


def is_repo(path: str) -> bool:
    """Returns whether a recipe's path is a name on the Hub.

    This is the case if it has the form of such a name and no such local path exists.
    """
    return REPO.fullmatch(path) is not None and ".." not in path and not Path(path).exists()


@cache
def snapshot(repo: str, kind: Literal["dataset", "model"], revision: str | None = None) -> Snapshot:
    """Returns the repository's data files at a revision, and downloads them unless they are cached.

    `revision` is a branch, tag or commit, or None for the main branch. It is resolved to a commit once per process.
    Raises UserError if the files are available neither from the Hub nor from the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = DATASET_FILES if kind == "dataset" else MODEL_FILES
    try:
        directory = snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=list(patterns), ignore_patterns=_LEFT_OUT[kind]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(_not_found(repo, kind, revision, error)) from error
    return Snapshot(Path(directory), Path(directory).name)


def _not_found(repo: str, kind: str, revision: str | None, error: Exception) -> str:
    cause = error.__cause__ or error
    reason = " ".join(str(cause).split()).partition(". ")[0].rstrip(".")
    at = f" at revision {revision!r}" if revision else ""
    command = f"hf download {repo}{' --repo-type dataset' if kind == 'dataset' else ''}"
    return (
        f"{repo}: no such local path, and the {kind} with this name{at} is available neither from the Hub nor from "
        f"the local cache ({type(cause).__name__}: {reason}); correct the path, or run `{command}` first"
    )
