"""Programs that import numpy and sympy, and attacks by way of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.security.sandbox_arena import ATTACKS, Arena, Attack, child_user
from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.pipeline.recipe import SandboxConfig
from thinkling.sandbox import packages
from thinkling.sandbox.kernel import missing_feature
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import Status
from thinkling.sandbox.sandbox import Sandbox
from thinkling.tasks.problem import Problem
from thinkling.verify.program import ProgramVerifier

NAMES = sorted(path.stem for path in ATTACKS.glob("*.py"))


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena(child_user()) as opened:
        yield opened


@pytest.fixture(scope="module")
def scientific(arena: Arena) -> Iterator[Sandbox]:
    if lacking := missing_feature():
        pytest.skip(lacking)
    pytest.importorskip("sympy")
    with Sandbox(packages=["numpy", "sympy"]) as opened:
        yield opened


def test_what_can_be_imported(scientific: Sandbox) -> None:
    assert scientific.packages == {"numpy", "sympy", "mpmath"}
    assert set(SandboxConfig.model_fields["packages"].annotation.__args__[0].__args__) == set(packages.PARTS)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("import numpy as np\nprint(np.linalg.det(np.eye(3)), np.random.default_rng(0).integers(9))", "1.0 7\n"),
        ("from sympy import symbols, solve\nx = symbols('x')\nprint(solve(x**2 - 4, x))", "[-2, 2]\n"),
        ("import numpy as np\nnp.save('a.npy', np.arange(3))\nprint(np.load('a.npy'))", "[0 1 2]\n"),
    ],
)
def test_programs_import_them(scientific: Sandbox, code: str, printed: str) -> None:
    outcome = scientific.run(code)
    assert (outcome.status, outcome.stdout) == (Status.OK, printed), outcome.stderr


@pytest.mark.parametrize("name", ["yaml", "pydantic", "pytest", "thinkling"])
def test_nothing_else_that_is_installed(scientific: Sandbox, name: str) -> None:
    assert scientific.run(f"import {name}").error == "ModuleNotFoundError"


def test_a_plain_sandbox_has_none() -> None:
    if lacking := missing_feature():
        pytest.skip(lacking)
    with Sandbox() as plain:
        assert plain.packages == frozenset()
        assert plain.run("import numpy").error == "ModuleNotFoundError"


@pytest.mark.parametrize(
    "read",
    [
        "np.fromfile(PATH, dtype='u1')",
        "np.memmap(PATH, dtype='u1', mode='r')",
        "np.load(PATH, allow_pickle=True)",
        "np.loadtxt(PATH, dtype=str)",
        "np.genfromtxt(PATH, dtype=str)",
        "np.lib.format.open_memmap(PATH)",
        "np.lib.npyio.DataSource('.').open(PATH)",
    ],
)
def test_files_are_confined_for_numpy_too(scientific: Sandbox, tmp_path: Path, read: str) -> None:
    secret = tmp_path / "secret.npy"
    secret.write_text("hunter2")
    os.chmod(secret, 0o644)
    for path in (os.fspath(secret), "/etc/passwd"):
        outcome = scientific.run(f"import numpy as np\nPATH = {path!r}\nprint({read})")
        assert outcome.status is Status.ERROR
        assert outcome.error in ("PermissionError", "FileNotFoundError"), outcome.stderr
        assert outcome.stdout == ""


@pytest.mark.parametrize(
    "attack",
    [
        "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.fork() == -1)",
        "import numpy.ctypeslib, ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.socket(2, 1, 0) == -1)",
        "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.open(b'/etc/passwd', 0) == -1)",
        "import os, numpy as np\ntry:\n    open(np.__file__, 'a')\nexcept OSError:\n    print(True)",
    ],
)
def test_foreign_functions_are_confined_too(scientific: Sandbox, attack: str) -> None:
    outcome = scientific.run(attack)
    assert outcome.stdout == "True\n" or outcome.status is Status.POLICY, outcome


def test_a_pickle_of_numpy_runs_only_inside(scientific: Sandbox) -> None:
    code = (
        "import numpy as np, os\n"
        "class Evil:\n    def __reduce__(self):\n        return os.listdir, ('/root',)\n"
        "np.save('a.npy', np.array([Evil()], dtype=object), allow_pickle=True)\n"
        "np.load('a.npy', allow_pickle=True)"
    )
    assert scientific.run(code).error == "PermissionError"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_attack_fails_with_packages(arena: Arena, scientific: Sandbox, name: str) -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=1.0)
    succeeded, outcome = arena.attack(Attack.read(ATTACKS / f"{name}.py"), scientific, limits)
    arena.reset()
    assert not succeeded, outcome


def test_programs_that_import_them_are_judged(scientific: Sandbox) -> None:
    problem = Problem("p", "f", "", "", "", "program", tests=("assert mean([1, 2]) == 1.5",))
    code = "import numpy as np\ndef mean(x):\n    return float(np.mean(x))"
    assert ProgramVerifier(scientific)(problem, Reading.of(code)).outcome == "right"


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(UserError, match=r"sandbox\.packages: unknown package 'torch'; use one of numpy, sympy"):
        packages.locations(["torch"])


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed: mpmath, sympy; run pip install mpmath sympy"):
        packages.locations(["sympy"])
