"""A model to start from, made once."""

from pathlib import Path

import pytest

from tests.stages.sft.chats import make_model
from thinkling.generate.renderer import Renderer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("start") / "model")


@pytest.fixture(scope="session")
def renderer(model: Path) -> Renderer:
    return Renderer.load(model)
