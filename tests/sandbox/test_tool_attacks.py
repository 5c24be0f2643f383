"""Attacks through the `python` tool: those across calls here, the sandbox's whole suite in `make nightly`."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.security.sandbox_arena import Arena, Attack, all_attacks, child_user
from benchmarks.security.tool_arena import LIMITS, TOTAL_SECONDS, Trial, attacks_across_calls, through_tool
from thinkling.generate.python_tool import PythonTool

ACROSS = {attack.name: attack for attack in attacks_across_calls()}
SUITE = {attack.name: attack for attack in map(through_tool, all_attacks())}


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena(child_user()) as opened:
        yield opened


@pytest.fixture(scope="module")
def tool(arena: Arena) -> Iterator[PythonTool]:
    """Opened when the secret is already in the environment and in an open file."""
    opened = PythonTool(LIMITS, TOTAL_SECONDS)
    yield opened
    opened.sandbox().close()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", ACROSS)
def test_an_attack_across_calls_fails(arena: Arena, tool: PythonTool, name: str) -> None:
    trial = Trial(arena, tool)
    found = trial.run(ACROSS[name])
    arena.reset()
    assert found == [], trial.answers


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", SUITE)
def test_an_attack_of_the_suite_fails(arena: Arena, tool: PythonTool, name: str) -> None:
    trial = Trial(arena, tool)
    found = trial.run(SUITE[name])
    arena.reset()
    assert found == [], trial.answers


class Unconfined:
    """A session that confines nothing."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}

    def run(self, arguments: Mapping[str, Any]) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(arguments["code"], self.namespace)
        return said.getvalue().rstrip("\n")

    def close(self) -> None:
        """Nothing ends."""


def test_an_attack_that_succeeds_is_noticed(arena: Arena, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    open_tool = PythonTool()
    monkeypatch.setattr(open_tool, "open", Unconfined)
    reasons = Trial(arena, open_tool).run(SUITE["read_secret"])
    arena.reset()
    assert any(reason.startswith("it said") for reason in reasons)
    assert "its process is not paused" in reasons
    assert "its process is still there" in reasons
    assert any(reason.startswith("the next rollout finds") for reason in reasons)
    raising = Trial(arena, open_tool)
    assert any(
        "the tool raised ZeroDivisionError" in reason for reason in raising.run(Attack("", "1 / 0", "effect", "none"))
    )
