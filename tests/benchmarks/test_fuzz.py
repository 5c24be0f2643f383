"""The fuzzer finds what is planted, and finds nothing in a share of its inputs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.strangers import fuzz
from benchmarks.strangers.fuzz_inputs import Input, drawn, minimised
from benchmarks.strangers.fuzz_targets import TARGETS, Target


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, fuzz._alarm)
    yield
    signal.signal(signal.SIGALRM, before)


def planted(parts: Input) -> None:
    if "b" in parts[0] and "x" in parts[1]:
        raise KeyError(parts[0])


def test_a_planted_crash_is_found_and_made_small(alarm: None) -> None:
    target = Target([("ab", "cx")], ["b"], planted)
    assert fuzz.failure(target, ("abc", "cxx")) == "KeyError in ?"
    small = minimised(("aaabaaab", "yyyxyyx"), lambda one: bool(fuzz.failure(target, one)))
    assert small == ("b", "x")


def test_a_planted_hang_is_found(alarm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.05)

    def check(_: Input) -> None:
        try:
            while True:
                time.sleep(0.01)
        except Exception:
            pass

    assert fuzz.failure(Target([("a",)], ["b"], check), ("a",)) == "hang"


@pytest.mark.parametrize("name", ["answers", "replies", "readers", "recipes", "templates"])
def test_inputs_are_a_function_of_their_chunk(name: str) -> None:
    first = fuzz.inputs_of(name, 3, 40)
    assert fuzz.inputs_of(name, 3, 40) == first != fuzz.inputs_of(name, 4, 40)
    assert len(set(first)) > 30


def test_shares_name_every_target_and_add_up() -> None:
    assert fuzz.SHARES.keys() == TARGETS.keys()
    assert sum(fuzz.SHARES.values()) == 1000


def test_mutation_keeps_the_number_of_strings() -> None:
    import random

    rng = random.Random(0)
    assert {len(drawn([("a", "b"), ("c", "d")], ["w"], rng)) for _ in range(200)} == {2}


@pytest.mark.slow
def test_a_share_of_the_million_inputs(tmp_path: Path) -> None:
    inputs, failures = fuzz.fuzz(20_000, list(fuzz.SHARES), tmp_path)
    assert inputs.keys() == fuzz.SHARES.keys()
    assert inputs.total() >= 20_000
    assert failures == [], (tmp_path / "failures.jsonl").read_text()
