"""One sandbox a test session; where the machine cannot have one, a skip that names what is missing."""

from collections.abc import Iterator

import pytest

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import SandboxUnavailable
from thinkling.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    try:
        opened = Sandbox(Limits(cpu_seconds=10, wall_seconds=60.0))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with opened:
        yield opened
