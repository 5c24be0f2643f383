"""A mistake ends in one clear line naming the field or file, exit 2, no traceback and no finished directory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NANO = REPOSITORY / "recipes" / "nano.yaml"


def thinkling(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "thinkling", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=240)


def expect_mistake(result: subprocess.CompletedProcess[str], *named: str) -> None:
    """Exit 2, no traceback, and one last line of errors in which everything named stands."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("thinkling: ")]
    assert len(lines) == 1
    assert result.stderr.rstrip().endswith(lines[0])
    for name in named:
        assert name in lines[0]


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which nano is done up to its tokens."""
    runs = tmp_path_factory.mktemp("runs")
    result = thinkling("tokenize", NANO, "--runs", runs)
    assert result.returncode == 0, result.stderr
    return runs


@pytest.fixture
def runs(tokenized: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(tokenized, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs"


def finished(runs: Path, stage: str) -> list[str]:
    return [p.name for p in runs.glob(f"nano/{stage}-*") if not p.name.endswith(".partial")]


def test_unknown_key(tmp_path: Path) -> None:
    result = thinkling("run", NANO, "--runs", tmp_path / "r", "--set", "stages.sft.epoch=1")
    expect_mistake(result, "stages.sft.epoch", "unknown key", "epochs")
    assert not (tmp_path / "r").exists()


def test_negative_tokens(tmp_path: Path) -> None:
    result = thinkling("run", NANO, "--runs", tmp_path / "r", "--set", "stages.pretrain.phases.0.tokens=-4000")
    expect_mistake(result, "stages.pretrain.phases.0.tokens", "greater than 0")
    assert not (tmp_path / "r").exists()


def test_missing_file(tmp_path: Path) -> None:
    source = f"sources.topics={{type: jsonl, paths: ['{tmp_path}/absent.jsonl']}}"
    result = thinkling("run", NANO, "--runs", tmp_path / "r", "--set", source)
    expect_mistake(result, "absent.jsonl", "no such file")
    assert not finished(tmp_path / "r", "curate")


def test_broken_parquet(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 this is not Parquet PAR1")
    result = thinkling(
        "run", NANO, "--runs", tmp_path / "r", "--set", f"sources.topics={{type: parquet, paths: ['{broken}']}}"
    )
    expect_mistake(result, "broken.parquet")
    assert not finished(tmp_path / "r", "curate")


def test_source_over_its_epochs_limit(runs: Path) -> None:
    result = thinkling("pretrain", NANO, "--runs", runs, "--set", "stages.pretrain.max_epochs={hq-pages: 0.1}")
    expect_mistake(result, "hq-pages", "max_epochs", "0.1")
    assert not finished(runs, "pretrain")


def test_unknown_source_in_a_mixture(runs: Path) -> None:
    result = thinkling("pretrain", NANO, "--runs", runs, "--set", "stages.pretrain.phases.2.mixture={hq-page: 1}")
    expect_mistake(result, "hq-page", "hq-pages")
    assert not finished(runs, "pretrain")


@pytest.mark.parametrize("change", ["edit", "add", "remove", "manifest"])
def test_input_artifact_changed_by_hand(runs: Path, change: str) -> None:
    artifact = next(runs.glob("nano/tokenize-*"))
    index = artifact / "shards" / "hq-pages" / "tokens.bin"
    if change == "edit":
        data = bytearray(index.read_bytes())
        data[10] ^= 1
        index.write_bytes(data)
    elif change == "add":
        index = artifact / "note.txt"
        index.write_text("mine")
    elif change == "remove":
        index.unlink()
    else:
        index = artifact / "manifest.json"
        text = index.read_text()
        place = text.index('"sha256": "') + 11
        index.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
    result = thinkling("pretrain", NANO, "--runs", runs)
    expect_mistake(result, str(artifact), "delete")
    assert not finished(runs, "pretrain")


def test_plan_verifies_on_request(runs: Path) -> None:
    assert thinkling("plan", NANO, "--runs", runs, "--verify").returncode == 0
    documents = next(runs.glob("nano/curate-*")) / "documents.parquet"
    stat = documents.stat()
    data = bytearray(documents.read_bytes())
    data[100] ^= 1
    documents.write_bytes(data)
    os.utime(documents, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert thinkling("plan", NANO, "--runs", runs).returncode == 0
    expect_mistake(thinkling("plan", NANO, "--runs", runs, "--verify"), "documents.parquet", "changed")


def test_a_changed_number_redoes_what_follows_and_nothing_before(runs: Path) -> None:
    before = finished(runs, "curate")
    result = thinkling("tokenize", NANO, "--runs", runs, "--set", "tokenizer.vocab_size=500")
    assert result.returncode == 0
    assert "curate: finished earlier, skipped" in result.stderr
    assert finished(runs, "curate") == before
    assert len(finished(runs, "tokenize")) == 2


def test_a_copied_run_is_verified_and_then_skipped(runs: Path) -> None:
    for path in runs.rglob("*.parquet"):
        os.utime(path)
    result = thinkling("tokenize", NANO, "--runs", runs)
    assert result.returncode == 0
    assert result.stderr.count("finished earlier, skipped") == 2


def test_one_process_a_run(runs: Path) -> None:
    import fcntl

    with (runs / "nano" / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        expect_mistake(thinkling("tokenize", NANO, "--runs", runs), "another process", str(runs / "nano"))


def test_verbs_of_stages_check_their_argument(tmp_path: Path) -> None:
    result = thinkling("sft", NANO, "--runs", tmp_path, "--stage", "pretrain")
    expect_mistake(result, "--stage pretrain", "sft_cold")
    expect_mistake(thinkling("curate", REPOSITORY / "recipes" / "posttrain.yaml"), "no stage of kind curate")


def test_plan_only_is_not_run(tmp_path: Path) -> None:
    expect_mistake(thinkling("run", REPOSITORY / "recipes" / "nanbeige4-3b.yaml", "--runs", tmp_path), "cannot be run")
