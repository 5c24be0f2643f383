"""What pyproject.toml offers besides the package itself is what the package's lines import."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {"scikit-learn": {"sklearn"}, "tensorboard": {"tensorboard", "torch.utils.tensorboard"}}
"""Package → what it is imported as, where that is not its name."""


def imported() -> set[str]:
    """Dotted names of all modules that lines of src import, and of those above them."""
    names = set()
    for path in (ROOT / "src" / "thinkling").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
                names |= {
                    arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                }
    return {".".join(name.split(".")[: n + 1]) for name in names for n in range(len(name.split(".")))}


def test_six_of_eight_extras_were_promises() -> None:
    """http, eval, ray, report, tasks and track held what nothing imported, and curate two such packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    there = imported()
    unused = [
        f"{extra}: {package}"
        for extra, requirements in project["optional-dependencies"].items()
        if extra != "dev"
        for package in (requirement.partition(">=")[0] for requirement in requirements)
        if not there & MODULES.get(package, {package.replace("-", "_")})
    ]
    assert unused == []
