"""The interface of all generation engines. This module does not import torch, so configs and fake engines can import
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One sequence to continue. The result depends only on the request, the weights and the sampling parameters, not on
    other requests in the batch (up to floating-point rounding)."""

    prompt: tuple[int, ...]
    """Token ids of the prompt; at least one."""
    seed: int
    """Seed of the request's stream of random numbers. Token i is drawn with number rng_offset + i of the stream."""
    max_new_tokens: int
    rng_offset: int = 0
    """Number of random numbers of the stream that are already used. A continuation sets this field to the number of
    tokens generated so far, so that no random number is used twice."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("the prompt is empty; it must have at least one token")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} is outside 0 … 2**63 - 1")
        if self.rng_offset < 0:
            raise ValueError(f"rng_offset is {self.rng_offset}; it must be 0 or more")


@dataclass(frozen=True)
class Sampling:
    """Parameters for drawing tokens. Source of the defaults: docs/recipe.md, Evaluation."""

    temperature: float = 0.6
    """The logits are divided by the temperature. At 0, the most likely token is always chosen."""
    top_p: float = 0.95
    """Nucleus sampling (arXiv 1904.09751 §3.1): each token is drawn from the smallest set of most likely tokens whose
    total probability is at least this value."""
    stop_ids: frozenset[int] = frozenset()
    """A sequence ends at the first of these tokens, and includes that token."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")


@dataclass
class Completion:
    """The continuation of a prompt. All lists have one entry per token."""

    tokens: list[int]
    """Token ids, including the stop token if there is one."""
    logprobs: list[float]
    """ln p(token | preceding tokens) under softmax(logits / temperature) over the whole vocabulary, *before* top-p, so
    that a trainer's forward pass can reproduce the values. At temperature 0, softmax(logits) is used; forced tokens
    have 0.0."""
    versions: list[int]
    """Version of the weights that generated each token."""
    finish_reason: FinishReason
    """`length` if the completion was cut off by max_new_tokens, otherwise `stop`."""
    forced: list[bool] = field(default_factory=list)
    """True for tokens written by a tool, which have no loss. Engines set False for all tokens."""

    def __post_init__(self) -> None:
        if not self.forced:
            self.forced = [False] * len(self.tokens)


@runtime_checkable
class ReportsEnded(Protocol):
    """An engine that reports progress while it generates."""

    on_ended: Callable[[int], object] | None
    """Called with the number of sequences that have just ended."""


class Engine(Protocol):
    """Anything that continues token sequences, such as the native engine, a client of a server, or a fake in a test."""

    @property
    def version(self) -> int:
        """Version of the weights in use."""
        ...

    def update_weights(self, version: int) -> None:
        """Loads the model's current weights and labels them `version`."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Returns one completion per request, in the order of the requests."""
        ...

    def release(self) -> None:
        """Frees memory that only generation needs, such as caches; the next `generate` reallocates it."""
        ...
