import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.distributed.checkpoint.api import CheckpointException

from thinkling.data.artifact import MANIFEST
from thinkling.pipeline.disk import disk_is_full

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"
LIMITED = """
import resource, sys
from thinkling.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EFBIG, "Error writing bytes to file. Detail: [errno 27] File too large"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        CheckpointException("save", {0: (OSError(errno.ENOSPC, "No space left on device"), None)}),  # pyright: ignore
    ],
)
def test_a_full_disk_is_told_in_a_line_whatever_library_met_it(tmp_path: Path, error: Exception) -> None:
    told = disk_is_full(error, tmp_path / "runs" / "not-there-yet")
    assert told is not None
    assert told.startswith(f"{tmp_path}/runs/not-there-yet: cannot be written: ")
    assert "MB free on this disk" in told
    assert "\n" not in told
    above = RuntimeError("the stage failed")
    above.__cause__ = error
    assert disk_is_full(above, tmp_path) == disk_is_full(error, tmp_path)


def test_the_file_is_named_where_it_is_known(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "metrics.jsonl"))
    told = disk_is_full(error, tmp_path / "runs")
    assert told is not None
    assert told.startswith(f"{tmp_path}/metrics.jsonl: cannot be written: no space left on device (")


def test_other_errors_are_not_the_disks(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOENT, "No such file or directory"), ValueError("28"), KeyError("space")):
        assert disk_is_full(error, tmp_path) is None


@pytest.mark.slow
def test_a_run_that_fills_the_disk_anywhere_loses_nothing(tmp_path: Path) -> None:
    """Files may not exceed a size that is raised from one start to the next; the end equals an undisturbed run's."""
    recipe = yaml.safe_load(RECIPE.read_text())
    kept = ("curate", "tokenize", "pretrain", "sft_cold", "evaluate_base")
    recipe["stages"] = {name: recipe["stages"][name] for name in kept}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))

    def run(runs: str, limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(limit), "run", str(tmp_path / "recipe.yaml"), "--runs", runs]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    limits = [500, 20_000, 60_000, 110_000, 150_000, 250_000, 300_000, 350_000, 400_000, 450_000, 500_000, 10**9]
    for limit in limits:
        done = run("filled", limit)
        assert done.returncode in (0, 2), done.stderr
        if done.returncode == 2:
            [told] = [line for line in done.stderr.split("\n") if line.startswith("thinkling: ")]
            assert "cannot be written: file too large" in told
            assert "Traceback" not in done.stderr
    assert run("whole", 10**9).returncode == 0

    def files(runs: str) -> dict[str, bytes]:
        names = [path for path in (tmp_path / runs).glob("**/*") if path.is_file()]
        content = {str(path.relative_to(tmp_path / runs)): path.read_bytes() for path in names}
        recorded = (MANIFEST, ".log.jsonl", "report.html", "summary.json")
        return {name: found for name, found in content.items() if not name.endswith(recorded)}

    assert files("filled") == files("whole")
