"""Tests run on CPU, one thread, where $THINKLING_DATA may or may not be there."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """More threads than idle cores make torch many times slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip that says why."""
    path = os.environ.get("THINKLING_DATA")
    if not path or not Path(path).is_dir():
        pytest.skip("THINKLING_DATA is not set to a folder of real data")
    return Path(path)
