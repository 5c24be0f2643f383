"""The command line of the experiments: a user's mistake is one line and exit status 2."""

from __future__ import annotations

import pytest

from experiments.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rl", "--seeds", "3-1"], "experiments: --seeds 3-1: write numbers"),
        (["rl", "--recipe", "nowhere.yaml"], "experiments: nowhere.yaml: cannot be read"),
        (["rl", "--jobs", "0"], "--jobs must be at least 1"),
        (["grpo"], "invalid choice: 'grpo'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_package_has_no_verb_for_experiments() -> None:
    """They are the project's own, and not installed with it."""
    from typer.main import get_command

    from thinkling.cli import app

    assert "evidence" not in get_command(app).commands  # type: ignore[attr-defined]
