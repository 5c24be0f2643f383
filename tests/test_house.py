"""The code base keeps to its own rules: the claims house.* as tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.house import structure


@pytest.mark.parametrize("rule", structure.CHECKS)
def test_the_house_keeps_its_rules(rule: str) -> None:
    assert structure.CHECKS[rule](structure.PACKAGE) == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that breaks every rule once, and comes close to breaking it."""
    files = {
        "puzzles/pages.py": "class PuzzlePages(Base):\n    '''Not one: its base is no source.'''\n",
        "sources/files.py": "class FilesSource:\n    pass\n\n\nclass Lines(FilesSource):\n    pass\n",
        "data/shards.py": "class TokenSource:\n    pass\n\n\nisinstance(x, TokenSource | PuzzlePages)\n",
        "data/tokenizer.py": "END = '<|im_end|>'\n",
        "stages/one.py": "isinstance(x, (int, files.Lines))\nmatch x:\n    case FilesSource():\n        pass\n",
        "stages/two.py": "# What a Puzzle is\nSTART = '<|im_start|>'\n",
        "stages/three.py": (
            "class C:\n"
            "    def eight(self, a, b, c, d, e, f, /, g, *, h):\n        pass\n"
            "    def nine(self, a, b, c, d, e, f, g, *h, **i):\n        pass\n\n\n"
            "class F(torch.autograd.Function):\n"
            "    def forward(ctx, a, b, c, d, e, f, g, h, i):\n        pass\n"
        ),
        "stages/long.py": "x = 1\n" * 501,
        "stages/not_long.py": "x = 1\n" * 500,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "offences"),
    [
        (
            "house.puzzle-words",
            ["data/shards.py:5: isinstance(x, TokenSource | PuzzlePages)", "stages/two.py:1: # What a Puzzle is"],
        ),
        ("house.isinstance-source", ["stages/one.py:1: Lines", "stages/one.py:3: FilesSource"]),
        ("house.chatml-words", ["stages/two.py:2: START = '<|im_start|>'"]),
        ("house.parameters", ["stages/three.py:4: nine has 9 parameters"]),
        ("house.long-files", ["stages/long.py: 501 lines"]),
    ],
)
def test_a_breach_of_a_rule_is_noticed(package: Path, rule: str, offences: list[str]) -> None:
    assert structure.CHECKS[rule](package) == offences
