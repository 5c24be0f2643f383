"""What a stage's result depends on: hashed, and shown in the manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rich.console import Console

from thinkling.errors import UserError
from thinkling.pipeline.recipe import load_recipe
from thinkling.pipeline.runner import Run, execute


def curating(folder: Path) -> Run:
    """A recipe whose curate stage grades with a saved labeller."""
    recipe = folder / "mine.yaml"
    grading = {"seeds": {"topics": 5}, "hq_tokens": "8K", "labeller": str(folder / "labeller")}
    stage = {"kind": "curate", "sources": ["topics"], "grading": grading}
    topics = {"type": "python_stdlib", "part": "topics"}
    recipe.write_text(yaml.safe_dump({"name": "mine", "sources": {"topics": topics}, "stages": {"curate": stage}}))
    return Run(load_recipe(recipe), folder / "runs")


def test_the_digest_of_a_saved_labeller_is_part_of_the_stages_hash(tmp_path: Path) -> None:
    (tmp_path / "labeller").mkdir()
    found = []
    for content in ("one", "two", "one"):
        (tmp_path / "labeller" / "labeller.json").write_text(content)
        run = curating(tmp_path)
        found.append((run.resolved("curate")["raw"]["grading.labeller"], run.final("curate", {})[1]))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_saved_labeller_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labeller: no such directory"):
        curating(tmp_path).resolved("curate")


def test_a_run_killed_between_manifest_and_rename_ran_the_stage_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "mine.yaml"
    topics = {"type": "python_stdlib", "part": "topics"}
    stage = {"kind": "curate", "sources": ["topics"], "quality": {"topics": "hq"}}
    recipe.write_text(yaml.safe_dump({"name": "mine", "sources": {"topics": topics}, "stages": {"curate": stage}}))
    run, rename = Run(load_recipe(recipe), tmp_path / "runs"), Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        execute(run, Console(quiet=True))
    monkeypatch.undo()
    written = next(run.directory.glob("curate-*.partial/manifest.json")).read_bytes()
    monkeypatch.setattr("thinkling.pipeline.runner.start", None)
    execute(run, Console(quiet=True))
    final = next(path for path in run.directory.glob("curate-*") if path.is_dir())
    assert (final / "manifest.json").read_bytes() == written
    assert not list(final.rglob(".*.seal"))
