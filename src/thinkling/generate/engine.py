"""What every generation engine takes and gives. Loads no torch: configs and fake engines may import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One sequence to continue. Its result depends on itself, the weights and the sampling, never on its neighbours
    (up to floating-point rounding)."""

    prompt: tuple[int, ...]
    """Token ids; at least one."""
    seed: int
    """Names the stream of random numbers: token i is drawn with the number at (seed, rng_offset + i)."""
    max_new_tokens: int
    rng_offset: int = 0
    """Numbers of the stream already used; a continuation gives the tokens so far, and draws no number twice."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a prompt needs at least one token")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; at least 1 is needed")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} is outside 0 … 2**63 - 1")
        if self.rng_offset < 0:
            raise ValueError(f"rng_offset is {self.rng_offset}; it counts numbers used")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Defaults: docs/recipe.md, Evaluation."""

    temperature: float = 0.6
    """Logits are divided by it; 0 takes the likeliest token."""
    top_p: float = 0.95
    """Nucleus (arXiv 1904.09751 §3.1): draws come from the smallest set of likeliest tokens with at least this mass."""
    stop_ids: frozenset[int] = frozenset()
    """A sequence ends with the first of these, which stays in its tokens."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it is 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it lies above 0 and at most at 1")


@dataclass
class Completion:
    """What came after a prompt. All lists have one entry a token."""

    tokens: list[int]
    """The stop token, where there is one, included."""
    logprobs: list[float]
    """ln p(token | what stood before) under softmax(logits / temperature) over the whole vocabulary, *before* top-p
    cuts it: what a trainer's forward can reproduce. At temperature 0: under softmax(logits). 0.0 on forced tokens."""
    versions: list[int]
    """Version of the weights that gave each token."""
    finish_reason: FinishReason
    """`length`: cut off by max_new_tokens."""
    forced: list[bool] = field(default_factory=list)
    """True on tokens that a tool wrote; they carry no loss. All False from an engine."""

    def __post_init__(self) -> None:
        if not self.forced:
            self.forced = [False] * len(self.tokens)


@runtime_checkable
class ReportsEnded(Protocol):
    """An engine that reports progress while it generates."""

    on_ended: Callable[[int], object] | None
    """Called with the number of sequences that have just ended."""


class Engine(Protocol):
    """Anything that continues token sequences: the native engine, a server's client, a script in a test."""

    @property
    def version(self) -> int:
        """Version of the weights in use."""
        ...

    def update_weights(self, version: int) -> None:
        """Takes over the model's present weights and calls them `version`."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion per request, in the order of the requests."""
        ...

    def release(self) -> None:
        """Frees what only generation needs, such as caches; the next `generate` allocates it again."""
        ...
