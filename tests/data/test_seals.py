"""Digests of what a stage sets down on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from thinkling.data.artifact import OWN_DIGEST, finish, is_finished, read_manifest, verify
from thinkling.data.seals import check, drop_damaged, require, require_lines, seal, seal_of, sealed
from thinkling.errors import UserError


def flip(path: Path) -> None:
    """Flips a bit; size and time stay as they were."""
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:2]),
    "flipped": flip,
    "emptied": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
}


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    directory = tmp_path / "sft-01234567.partial"
    (directory / "store").mkdir(parents=True)
    for name in ("a", "b"):
        (directory / "store" / name).write_text(f"content of {name}\n")
    seal(directory / "store")
    return directory


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("file", ["a", ".a.seal"])
def test_a_damaged_file_or_seal_is_dropped_with_a_warning_and_others_stay(stage: Path, kind: str, file: str) -> None:
    DAMAGES[kind](stage / "store" / file)
    warnings: list[str] = []
    drop_damaged(stage / "store", warnings.append, "making it again")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{stage / 'store' / 'a'} ")
    assert sorted(path.name for path in (stage / "store").iterdir()) == [".b.seal", "b"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_that_cannot_be_made_again_is_refused_in_one_line(stage: Path, kind: str) -> None:
    require(stage / "store", stage)
    check(stage, ())
    DAMAGES[kind](stage / "store" / "b")
    for refused in (lambda: require(stage / "store", stage), lambda: check(stage, ())):
        with pytest.raises(UserError, match=r"store/b is (corrupt|missing) and cannot be recreated; .*delete") as error:
            refused()
        assert "\n" not in str(error.value)


def test_what_a_killed_run_did_not_seal_is_not_taken(stage: Path) -> None:
    (stage / "store" / "c").write_text("half of")
    drop_damaged(stage / "store", lambda _: None, "making it again")
    assert not (stage / "store" / "c").exists()


def test_lines_of_a_log_are_those_of_the_checkpoint(stage: Path) -> None:
    log, checkpoint = stage / "metrics.jsonl", stage / "checkpoints" / "step-00000001"
    log.write_text('{"step": 0, "loss": 1.5}\n')
    seal(log, checkpoint)
    require_lines(log.read_bytes(), log, checkpoint, stage)
    require_lines(b"other", log, stage / "checkpoints" / "none", stage)  # written before the first checkpoint
    with pytest.raises(
        UserError, match=r"metrics\.jsonl does not match its checksum in .*, so one of these files is corrupt"
    ):
        require_lines(log.read_bytes().replace(b"1.5", b"1.4"), log, checkpoint, stage)


def finished(stage: Path) -> Path:
    final = stage.with_suffix("")
    finish(stage, final, {"kind": "model", "counts": {"n": 3}}, {})
    return final


def test_seals_are_no_part_of_the_artifact(stage: Path) -> None:
    final = finished(stage)
    assert not list(sealed(final))
    assert sorted(read_manifest(final)["files"]) == ["store/a", "store/b"]
    assert not seal_of(final / "store" / "a").exists()


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_file_damaged_while_the_stage_worked_does_not_get_into_the_artifact(stage: Path, kind: str) -> None:
    DAMAGES[kind](stage / "store" / "a")
    with pytest.raises(UserError, match=r"store/a is (corrupt|missing)"):
        finished(stage)
    assert not is_finished(stage.with_suffix(""))


def test_a_flipped_bit_of_a_finished_artifact_with_the_same_size_and_time_is_named(stage: Path) -> None:
    final = finished(stage)
    flip(final / "store" / "a")
    with pytest.raises(UserError, match="store/a was changed"):
        verify(final, read_manifest(final))


def test_changed_counts_in_a_manifest_are_noticed(stage: Path) -> None:
    final = finished(stage)
    path = final / "manifest.json"
    assert OWN_DIGEST in json.loads(path.read_text())["recorded"]
    path.write_text(path.read_text().replace('"n": 3', '"n": 2'))
    with pytest.raises(UserError, match=r"manifest\.json was changed"):
        read_manifest(final)


def test_an_artifact_without_its_manifest_is_not_made_over(stage: Path) -> None:
    final = finished(stage)
    assert is_finished(final)
    (final / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing; delete"):
        is_finished(final)


def test_a_directory_that_a_killed_run_was_deleting_is_not_checked(stage: Path) -> None:
    leaving = stage / "checkpoints"
    leaving.mkdir()
    (leaving / "a.bin").write_bytes(b"abc")
    seal(leaving)
    (leaving / "a.bin").unlink()
    check(stage, (leaving,))
    with pytest.raises(UserError, match="is missing and cannot be recreated"):
        check(stage, ())
