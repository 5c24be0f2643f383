"""The floors of the house hold, and the contracts that watch them would notice a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"

# Contract → (file, what it must not import), all of them breaches.
BREACHES = {
    "data imports model": ("floors", "data/documents.py", "thinkling.model.config"),
    "tasks import data": ("floors", "tasks/problem.py", "thinkling.data.documents"),
    "sandbox imports tasks": ("floors", "sandbox/limits.py", "thinkling.tasks.problem"),
    "train imports generate": ("floors", "train/trainer.py", "thinkling.generate.engine"),
    "verify imports train": ("floors", "verify/verdict.py", "thinkling.train.trainer"),
    "quality imports a stage": ("floors", "quality/value.py", "thinkling.stages.base"),
    "a stage imports the pipeline": ("floors", "stages/sft/config.py", "thinkling.pipeline.runner"),
    "the pipeline imports the cli": ("floors", "pipeline/runner.py", "thinkling.cli"),
    "the pipeline imports report": ("floors", "pipeline/runner.py", "thinkling.report"),
    "sft imports pretrain": ("stages", "stages/sft/config.py", "thinkling.stages.pretrain.config"),
    "a stage imports a stage through a neighbour": (
        "stages",
        "stages/evaluate/config.py",
        "thinkling.stages.curate.pages",
    ),
    "the stages' base imports a stage": ("stages", "stages/base.py", "thinkling.stages.sft.config"),
    "generate imports puzzles": ("floors", "generate/score.py", "thinkling.puzzles.family"),
    "the pipeline imports serve": ("floors", "pipeline/runner.py", "thinkling.serve.chat"),
    "verify imports generate": ("floors", "verify/registry.py", "thinkling.generate.renderer"),
    "verify imports the demo": ("no-demo", "verify/registry.py", "thinkling.puzzles.family"),
    "plugins import data": ("plugins", "plugins.py", "thinkling.data.documents"),
    "report imports the pipeline": ("report", "report/__init__.py", "thinkling.pipeline.runner"),
    "errors import data": ("free", "errors.py", "thinkling.data.documents"),
    "progress imports stages": ("free", "progress.py", "thinkling.stages.base"),
    "a config imports torch": ("configs", "model/config.py", "torch"),
    "a config imports pyarrow through its neighbour": ("configs", "stages/sft/config.py", "thinkling.data.documents"),
}


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    """Holds the package under `source` against the project's contracts."""
    lint_imports = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [str(lint_imports), "--config", str(PYPROJECT), "--no-cache", "--no-logo"],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package to break."""
    shutil.copytree(ROOT / "src" / "thinkling", tmp_path / "thinkling", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def contract_names() -> dict[str, str]:
    """Identifier → name of each contract."""
    return {options["id"]: options["name"] for options in read_configuration(str(PYPROJECT))["contracts_options"]}


def test_the_package_keeps_every_contract() -> None:
    result = lint(ROOT / "src")
    assert result.returncode == 0, result.stdout
    for name in contract_names().values():
        assert f"{name} KEPT" in result.stdout


def test_every_contract_has_a_breach_to_notice() -> None:
    assert {contract for contract, _, _ in BREACHES.values()} == set(contract_names())


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_noticed(copy: Path, breach: str) -> None:
    contract, file, module = BREACHES[breach]
    path = copy / "thinkling" / file
    assert path.exists(), f"{file} moved: name another file of that room"
    with path.open("a", encoding="utf-8") as source:
        source.write(f"\nimport {module}\n")
    result = lint(copy)
    assert result.returncode == 1, result.stdout
    assert f"{contract_names()[contract]} BROKEN" in result.stdout, result.stdout


def test_every_package_of_the_house_stands_on_a_floor() -> None:
    """A new room that no contract names would be free to import anything."""
    contracts = {c["id"]: c for c in read_configuration(str(PYPROJECT))["contracts_options"]}
    named = {name.strip(" ()") for layer in contracts["floors"]["layers"] for name in layer.split("|")}
    rooms = {f"thinkling.{path.parent.name}" for path in (ROOT / "src" / "thinkling").glob("*/__init__.py")}
    modules = {f"thinkling.{path.stem}" for path in (ROOT / "src" / "thinkling").glob("*.py")}
    free = {"thinkling.__init__", "thinkling.__main__", *contracts["free"]["source_modules"]}
    assert (rooms | modules) - free <= named


def test_importing_the_cli_and_every_config_loads_nothing_heavy() -> None:
    package = ROOT / "src" / "thinkling"
    configs = [
        ".".join(("thinkling", *p.relative_to(package).with_suffix("").parts)) for p in package.rglob("config.py")
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {['thinkling.cli', *sorted(configs)]!r}: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'numpy', 'pyarrow', 'tokenizers', 'safetensors') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
