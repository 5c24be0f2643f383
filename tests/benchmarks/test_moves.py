"""house.moves: which commits are looked at, and what counts as equal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.house import moves


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits: the first, a move of source, a change of documentation that calls itself a move."""
    root = tmp_path / "repository"
    for folder in ("src", "recipes", "tests/train"):
        (root / folder).mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for name in ("pyproject.toml", "recipes/nano.yaml", "tests/train/golden_adamw.json", "tests/train/worker.py"):
        (root / name).write_text("1")
    for subject, name in (("first", "src/a.py"), ("Move: a to b", "src/b.py"), ("Move: docs", "README.md")):
        (root / name).write_text(subject)
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        for command in (["add", "."], [*identity, "commit", "-q", "-m", subject]):
            subprocess.run(["git", *command], cwd=root, check=True)
    return root


def test_moves_are_found_with_their_parents(repository: Path) -> None:
    first, second = moves.moves("HEAD", repository)
    assert (first.subject, second.subject) == ("Move: a to b", "Move: docs")
    assert second.parent == first.commit
    assert moves.moves("HEAD~1..HEAD", repository) == [second]


def test_commits_share_a_run_where_nothing_that_decides_it_differs(repository: Path) -> None:
    first, second, third = (moves.key(commit, repository) for commit in ("HEAD~2", "HEAD~1", "HEAD"))
    assert first != second
    assert second == third
    assert list(moves.golden("HEAD", repository)) == ["tests/train/golden_adamw.json"]


def _run(folder: Path, digest: str, weights: str, seconds: float) -> Path:
    stage = folder / f"sft-{digest}"
    stage.mkdir(parents=True)
    (stage / "model.safetensors").write_text(weights)
    (stage / "log.log.jsonl").write_text(str(seconds))
    (stage / "manifest.json").write_text(json.dumps({"hash": digest, "recorded": {"wall_seconds": seconds}}))
    (folder / "model").symlink_to(stage.name)
    return folder


def test_a_changed_hash_is_a_changed_manifest_and_times_do_not_count(tmp_path: Path) -> None:
    one = moves.digests(_run(tmp_path / "one", "0" * 8, "weights", 1))
    assert one == moves.digests(_run(tmp_path / "two", "0" * 8, "weights", 2))
    renamed = moves.digests(_run(tmp_path / "three", "1" * 8, "weights", 1))
    assert {name for name in one if one[name] != renamed[name]} == {"sft/manifest.json"}
    assert one.keys() == renamed.keys()
    other = moves.digests(_run(tmp_path / "four", "0" * 8, "other", 1))
    assert {name for name in one if one[name] != other[name]} == {"sft/model.safetensors"}
