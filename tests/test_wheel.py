"""What is in the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def test_the_wheel_held_no_recipe(tmp_path: Path) -> None:
    """Nothing could be run outside the repository."""
    source = tmp_path / "source"
    for name in ("src", "recipes"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        held = {name: archive.read(name) for name in names if name.startswith("thinkling/recipes/")}
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert held == {f"thinkling/recipes/{p.name}": p.read_bytes() for p in (ROOT / "recipes").glob("*.yaml")}
    assert "thinkling/report/page.html" in names
    assert "Provides-Extra: curate" in metadata
