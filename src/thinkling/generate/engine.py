"""Interface of every generation engine. Does not load torch, so configs and fake engines can import it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One sequence to continue. The result depends on the request, the weights and the sampling, never on other
    requests in the batch (up to floating-point rounding)."""

    prompt: tuple[int, ...]
    """Token ids; at least one."""
    seed: int
    """Selects the random number stream: token i is drawn with the number at (seed, rng_offset + i)."""
    max_new_tokens: int
    rng_offset: int = 0
    """Random numbers already used; a continuation sets it to the tokens generated so far, so none is reused."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a prompt needs at least one token")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} is outside 0 … 2**63 - 1")
        if self.rng_offset < 0:
            raise ValueError(f"rng_offset is {self.rng_offset}; it must be 0 or more")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Defaults: docs/recipe.md, Evaluation."""

    temperature: float = 0.6
    """Divides the logits; 0 always picks the most likely token."""
    top_p: float = 0.95
    """Nucleus sampling (arXiv 1904.09751 §3.1): draws from the smallest set of most likely tokens with at least this
    probability mass."""
    stop_ids: frozenset[int] = frozenset()
    """A sequence ends at the first of these, which is included in its tokens."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")


@dataclass
class Completion:
    """The continuation of a prompt. All lists have one entry per token."""

    tokens: list[int]
    """Includes the stop token, if there is one."""
    logprobs: list[float]
    """ln p(token | preceding tokens) under softmax(logits / temperature) over the whole vocabulary, *before* top-p, so
    that a trainer's forward pass can reproduce it. At temperature 0: under softmax(logits). 0.0 on forced tokens."""
    versions: list[int]
    """Version of the weights that generated each token."""
    finish_reason: FinishReason
    """`length`: cut off by max_new_tokens."""
    forced: list[bool] = field(default_factory=list)
    """True on tokens written by a tool, which have no loss. Engines return all False."""

    def __post_init__(self) -> None:
        if not self.forced:
            self.forced = [False] * len(self.tokens)


class Engine(Protocol):
    """Anything that continues token sequences: the native engine, a server's client, a fake in a test."""

    @property
    def version(self) -> int:
        """Version of the weights in use."""
        ...

    def update_weights(self, version: int) -> None:
        """Loads the model's current weights and labels them `version`."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion per request, in the order of the requests."""
        ...

    def release(self) -> None:
        """Frees memory that only generation needs, such as caches; the next `generate` reallocates it."""
        ...
