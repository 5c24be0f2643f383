"""Every attack, inside; outside too in `make nightly`. As another user: benchmarks/security/sandbox.py."""

import os
from collections.abc import Iterator

import pytest

from benchmarks.security.sandbox_arena import ATTACKS, Arena, Attack, all_attacks, child_user
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.sandbox import Sandbox

LIMITS = Limits(cpu_seconds=1, wall_seconds=1.0)
NAMES = sorted(path.stem for path in ATTACKS.glob("*.py"))


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena(child_user()) as opened:
        yield opened


@pytest.fixture(scope="module")
def exposed(arena: Arena) -> Iterator[Sandbox]:
    """A sandbox that was started when the secret was already in the environment and in an open file."""
    with Sandbox() as opened:
        yield opened


def test_there_are_enough() -> None:
    assert len(NAMES) >= 40
    assert len({attack.code for attack in all_attacks()}) == len(NAMES)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", NAMES)
def test_attack_fails(arena: Arena, exposed: Sandbox, name: str) -> None:
    succeeded, outcome = arena.attack(Attack.read(ATTACKS / f"{name}.py"), exposed, LIMITS)
    arena.reset()
    assert not succeeded, outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_attack_succeeds_outside(arena: Arena, name: str) -> None:
    attack = Attack.read(ATTACKS / f"{name}.py")
    if attack.control == "none" or (attack.control == "root" and os.getuid() != 0):
        pytest.skip("it cannot be tried outside by this user")
    if name in ("parent_environment", "change_limits"):
        pytest.skip(
            "benchmarks/security/sandbox.py prepares it: the secret at the start, and a user without privileges"
        )
    succeeded = arena.control(attack)
    arena.reset()
    assert succeeded
