"""A model small enough that a test of the trainer costs milliseconds, and its objective."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from thinkling.train.callback import Callback, StepMetrics

VOCAB = 32
Batch = tuple[Tensor, Tensor]


class Layer(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.up = nn.Linear(size, 2 * size, bias=False)
        self.down = nn.Linear(2 * size, size, bias=False)
        self.norm = nn.RMSNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Toy(nn.Module):
    """Predicts a token from the one before; head tied to the embedding, or its own."""

    def __init__(self, size: int = 16, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, size)
        self.layers = nn.ModuleList(Layer(size) for _ in range(2))
        self.norm = nn.RMSNorm(size)
        self.head = None if tied else nn.Linear(size, VOCAB, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * 0.1
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) @ (self.embedding.weight if self.head is None else self.head.weight).T


@pytest.fixture
def make_toy() -> Callable[..., Toy]:
    def make(seed: int = 0, **options: bool | int) -> Toy:
        torch.manual_seed(seed)
        return Toy(**options)  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture(scope="session")
def objective() -> Callable[[nn.Module, Batch], tuple[Tensor, int, dict[str, float | Tensor]]]:
    def cross_entropy(model: nn.Module, batch: Batch) -> tuple[Tensor, int, dict[str, float | Tensor]]:
        tokens, labels = batch
        logits = model(tokens).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum", ignore_index=-100)
        right = (logits.argmax(-1) == labels.flatten()).sum()
        return loss, int((labels != -100).sum()), {"right": right, "rows": float(len(tokens))}

    return cross_entropy


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """(rows, 6) tokens and labels of a step; about a fifth of the labels, other ones in each row, bear no loss."""

    def make(step: int, rows: int = 8) -> Batch:
        generator = torch.Generator().manual_seed(1000 + step)
        tokens = torch.randint(VOCAB, (rows, 6), generator=generator)
        labels = (tokens * 3 + 1) % VOCAB
        return tokens, labels.masked_fill(torch.rand(rows, 6, generator=generator) < 0.2, -100)

    return make


class Curve(Callback):
    """What each step reported."""

    def __init__(self) -> None:
        self.steps: dict[int, StepMetrics] = {}

    def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
        self.steps[step] = metrics


@pytest.fixture
def make_curve() -> type[Curve]:
    return Curve


@pytest.fixture(scope="session")
def worker() -> ModuleType:
    """`worker.py`: a run of a tiny Decoder, here in this process."""
    spec = importlib.util.spec_from_file_location("train_worker", Path(__file__).with_name("worker.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
