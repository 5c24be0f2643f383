"""Problem sets: distinct, deterministic, split by hash, and honest about small spaces."""

import os
import subprocess
import sys

import pytest

from thinkling.errors import UserError
from thinkling.puzzles.families import FAMILIES
from thinkling.puzzles.problemset import generate, heldout
from thinkling.tasks.problem import split

DEFAULTS = {name: {} for name in FAMILIES}


def test_hundred_held_out_problems_a_family_and_no_shared_question() -> None:
    held = heldout(DEFAULTS, 100, seed=0)
    train = generate(DEFAULTS, "train", 3_000, seed=0)
    assert len({p.id for p in held}) == 100 * len(FAMILIES)
    assert len({p.question for p in train}) == 3_000 * len(FAMILIES)
    assert not {p.question for p in held} & {p.question for p in train}
    assert {split(p) for p in held} == {"heldout"}
    assert {split(p) for p in train} == {"train"}
    assert [p.family for p in held] == [name for name in FAMILIES for _ in range(100)]


def test_deterministic_and_a_larger_set_continues_a_smaller() -> None:
    small = generate(DEFAULTS, "train", 20, seed=7)
    assert small == generate(DEFAULTS, "train", 20, seed=7)
    assert small != generate(DEFAULTS, "train", 20, seed=8)
    large = generate({"mod": {}}, "train", 50, seed=7)
    assert large[:20] == [p for p in small if p.family == "mod"]


def test_independent_of_the_hash_seed() -> None:
    program = (
        "from thinkling.puzzles.problemset import generate\n"
        "print([p.id for p in generate({'sort': {}, 'calc': {}}, 'train', 5, 3)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": s},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for s in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().count("'") == 20


def test_a_number_for_each_family() -> None:
    counted = generate({"sum": {}, "sort": {}}, "train", {"sum": 3, "sort": 5}, seed=0)
    assert [p.family for p in counted] == ["sum"] * 3 + ["sort"] * 5


def test_small_space_is_an_error_not_a_repeat() -> None:
    knobs = {"sum": {"max_operands": 2}}
    with pytest.raises(UserError, match=r"family sum: found \d+ of 100 distinct heldout problems"):
        heldout(knobs, 100, seed=0)
    assert len(generate({"sort": {"min_length": 2, "max_length": 2}}, "train", 70, seed=0)) == 70


def test_unknown_family() -> None:
    with pytest.raises(UserError, match="unknown puzzle family 'gcd'; use one of sum, mod"):
        generate({"gcd": {}}, "train", 1, seed=0)
