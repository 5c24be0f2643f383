"""Builds the batches of the next steps in threads while the current step trains.

Prefetching does not change any batch, because a batch is a function of its step.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Context manager that returns `batches(step)` and prepares the next `depth` steps in `workers` threads.

    With depth 0, `batches` is called synchronously. Steps may be requested in any order. A batch that has not been
    prepared is built when it is requested.
    """

    def __init__(self, batches: Callable[[int], T], n_steps: int, depth: int = 2, workers: int = 1) -> None:
        self._batches = batches
        self._n_steps = n_steps
        self._depth = depth
        self._pool = ThreadPoolExecutor(workers, "prefetch") if depth else None
        self._under_way: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """Returns the result of `batches(step)`, or re-raises its exception."""
        if self._pool is None:
            return self._batches(step)
        wanted = range(step, min(step + self._depth + 1, self._n_steps))
        for stale in [s for s in self._under_way if s not in wanted]:
            self._under_way.pop(stale).cancel()
        for s in (step, *wanted):
            if s not in self._under_way:
                self._under_way[s] = self._pool.submit(self._batches, s)
        return self._under_way[step].result()

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
