"""The command line as a newcomer meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import typer.main
from rich.console import Console

from thinkling import cli
from thinkling.cli_group import sentence
from thinkling.pipeline.clean import clean, left_over
from thinkling.pipeline.packaged import packaged
from thinkling.pipeline.recipe import KINDS, load_recipe
from thinkling.pipeline.runner import Run


def thinkling(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80"}
    command = [sys.executable, "-m", "thinkling", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_thinkling_alone_says_where_to_start() -> None:
    shown = thinkling()
    assert (shown.returncode, "thinkling init sft" in shown.stdout) == (0, True)


def test_help_cut_every_sentence() -> None:
    shown = thinkling("--help").stdout
    verbs = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]
    flat = " ".join(shown.split())
    assert "…" not in shown
    assert "..." not in shown.replace("[ARGS]...", "")
    sentences = [sentence(verb.help) for verb in verbs.values()]
    assert all(one in flat for one in sentences)
    assert len(set(sentences)) == len(sentences)  # eight verbs said the same
    assert "--install-completion" in shown


def test_each_verbs_help_has_an_example() -> None:
    verbs = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]
    assert [name for name, verb in verbs.items() if f"Example: thinkling {name}" not in verb.help] == []
    assert set(cli.STAGES) == set(KINDS)


def test_ctrl_c_was_mute(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thinkling", "run", "nano"]
    # A job in the background of a shell ignores SIGINT, and so would its children.
    catch = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=catch) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/nano/curate-*.partial")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    # Python ends by the signal itself if it came while a C extension ran Python; a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert errors.rstrip().endswith("thinkling: stopped; the same command resumes from the last checkpoint")
    assert "Traceback" not in errors


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs a folder that root cannot write")
def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    root = Path("/proc/thinkling") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o500)
    shown = thinkling("tokenize", "nano", "--runs", str(root / "runs"))
    tmp_path.chmod(0o700)
    assert (shown.returncode, "Traceback" in shown.stderr) == (2, False)
    assert "cannot be written" in shown.stderr
    assert "--runs" in shown.stderr


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a begun artifact of now, two of other settings, and folders that are no artifacts."""
    run = Run(load_recipe(packaged()["nano"]), tmp_path)
    current = next(path for name, _, path in run.states() if name == "curate" and path)
    for name in (
        f"{current.name}.partial",
        "rl_code-01234567",
        "sft-89abcdef.partial",
        "tensorboard",
        "answers",
        "old-notes",
    ):
        (run.directory / name / "model").mkdir(parents=True)
        (run.directory / name / "model" / "file").write_bytes(b"x" * 2_000_000)
    return run


def test_clean_lists_and_deletes_what_other_settings_made_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=80)
    clean(run, False, console)
    assert len(list(run.directory.iterdir())) == 6
    assert "2 folders, 4.0 MB" in capsys.readouterr().out
    clean(run, True, console)
    left = {path.name for path in run.directory.iterdir() if path.is_dir()}
    assert not {"rl_code-01234567", "sft-89abcdef.partial"} & left
    assert {"tensorboard", "answers", "old-notes"} < left
    assert any(name.startswith("curate-") for name in left)


def test_clean_keeps_the_model_that_the_run_points_to(run: Run) -> None:
    (run.directory / "model").symlink_to("rl_code-01234567/model")
    clean(run, True, Console(quiet=True))
    assert (run.directory / "model" / "file").is_file()
    assert [one.linked for one in left_over(run)] == ["model"]


def test_a_what_if_question_invited_deletion(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from thinkling.pipeline import plan

    recipe = load_recipe(packaged()["nano"], ["stages.curate.min_characters=2"])
    plan.show(recipe, run.directory.parent, Console(width=80), whole=False)
    plan.show(recipe, run.directory.parent, Console(width=80), whole=True)
    shown = capsys.readouterr().out
    assert "safe to delete" not in shown
    assert shown.count("artifacts of other settings") == 1
