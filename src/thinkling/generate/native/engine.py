"""The in-process engine. It uses continuous batching: waiting requests replace finished rows immediately.

When a request enters the batch, the keys and values of all its prompt tokens except the last are computed; the last
prompt token is the first token to be decoded. All sampling therefore happens in the decoding step. The keys and values
of a prompt that another active request shares are copied rather than recomputed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from thinkling.errors import UserError
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.native.decode import Cache, decode, prefill
from thinkling.generate.native.plain import PlainWeights, TokenCache
from thinkling.generate.native.sampler import draw, uniforms
from thinkling.generate.native.weights import Weights, supports
from thinkling.model.decoder import Decoder

_PREFILL_TOKENS = 8192
"""Maximum number of prompt tokens per forward pass, including padding, unless a single prompt is longer."""


class NativeEngine:
    """Generates with a `Decoder`, on its device. Implements `Engine`."""

    def __init__(self, model: Decoder, max_concurrent: int = 128, dtype: torch.dtype | None = None) -> None:
        """`max_concurrent`: number of sequences decoded at once. `dtype`: dtype of the copied weights and the cache."""
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent is {max_concurrent}; it must be at least 1")
        self.model = model
        self.max_concurrent = max_concurrent
        dtype = dtype or model.model.embed_tokens.weight.dtype
        self._weights = Weights(model, dtype) if supports(model.config) else PlainWeights(model, dtype)
        self._version = 0
        self._cache: Cache | TokenCache | None = None
        self.on_ended: Callable[[int], object] | None = None

    @property
    def version(self) -> int:
        """Version of the weights in use; 0 for the weights at construction."""
        return self._version

    def update_weights(self, version: int) -> None:
        """Copies the model's current weights. Training does not affect the engine until this method is called."""
        self._weights.refresh(self.model)
        self._version = version
        self._cache = None

    def release(self) -> None:
        """Frees the cache; the next `generate` reallocates it."""
        self._cache = None

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Returns one completion per request, in order.

        Raises UserError for unknown tokens, for a request that is too long for the model, and for non-finite logits.
        """
        self._check(requests, sampling)
        if not requests:
            return []
        batch = _Batch(requests, sampling, self)
        active = len(requests)
        while batch.step():
            if self.on_ended is not None and (ended := active - batch.n_left):
                self.on_ended(ended)
                active -= ended
        self._cache = batch.cache
        return batch.completions(self._version)

    def _check(self, requests: Sequence[Request], sampling: Sampling) -> None:
        config = self._weights.config
        for request in requests:
            if not 0 <= min(request.prompt) <= max(request.prompt) < config.known_vocab_size:
                raise UserError(
                    f"a prompt has token ids outside the model's vocabulary of {config.known_vocab_size} tokens; use "
                    "the tokenizer that belongs to the model"
                )
            # A continuation may exceed the limit: the length of a tool's output is not known in advance, and rotary
            # embeddings are defined for any position.
            length = len(request.prompt) + request.max_new_tokens
            if not request.rng_offset and length > config.max_position_embeddings:
                raise UserError(
                    f"a prompt of {len(request.prompt)} tokens plus max_new_tokens {request.max_new_tokens} exceeds "
                    f"the model's max_position_embeddings {config.max_position_embeddings}; lower max_new_tokens"
                )
        if any(not 0 <= stop < config.known_vocab_size for stop in sampling.stop_ids):
            raise UserError(
                f"some of the stop_ids {sorted(sampling.stop_ids)} are outside the model's vocabulary of "
                f"{config.known_vocab_size} tokens; use the tokenizer that belongs to the model"
            )


class _Batch:
    """The state of one call of `generate`. Row i of every array and of the cache is the i-th active sequence."""

    def __init__(self, requests: Sequence[Request], sampling: Sampling, engine: NativeEngine) -> None:
        weights = engine._weights
        self.requests, self.sampling, self.weights = requests, sampling, weights
        self.waiting = deque(range(len(requests)))
        self.capacity = min(engine.max_concurrent, len(requests))
        self.limit = max(len(r.prompt) + r.max_new_tokens for r in requests)
        cache = engine._cache
        if cache is None or cache.rows < self.capacity:
            cache = _new_cache(weights, self.capacity, min(self.limit, 2 * max(len(r.prompt) for r in requests)))
        self.cache = cache
        self.stops = np.zeros(weights.config.known_vocab_size, dtype=bool)
        self.stops[list(sampling.stop_ids)] = True
        self.request = np.empty(0, dtype=np.int64)
        self.positions = np.empty(0, dtype=np.int64)
        self.left = np.empty(0, dtype=np.int64)
        self.seeds = torch.empty(0, dtype=torch.int64, device=weights.device)
        self.counters = torch.empty(0, dtype=torch.int64, device=weights.device)
        self.tokens = torch.empty(0, dtype=torch.int64, device=weights.device)
        # One entry per step: the requests, their tokens and their log-probabilities.
        self.history: list[tuple[np.ndarray, np.ndarray, torch.Tensor]] = []

    @property
    def n_left(self) -> int:
        """Number of sequences that have not ended."""
        return len(self.waiting) + len(self.request)

    def step(self) -> bool:
        """Admits requests, decodes and samples one token per row, and retires finished rows. Returns False when all
        requests are finished."""
        if self.waiting:
            self._admit()
        if not len(self.request):
            return False
        self.cache.reserve(int(self.positions.max()) + 1, self.limit)
        if isinstance(self.cache, TokenCache):
            logits_BV = self.cache.decode(self.tokens, self.positions)
        else:
            logits_BV = decode(self.cache.weights, self.cache, self.tokens, self.positions)
        u_B = uniforms(self.seeds, self.counters)
        self.tokens, logprobs_B = draw(logits_BV, u_B, self.sampling.temperature, self.sampling.top_p)
        drawn = self.tokens.cpu().numpy()
        self.history.append((self.request, drawn, logprobs_B))
        self.positions = self.positions + 1
        self.counters = self.counters + 1
        self.left = self.left - 1
        done = self.stops[drawn] | (self.left == 0)
        if done.any():
            self._retire(done)
        return True

    def _admit(self) -> None:
        """Admits waiting requests to free rows, several at a time, because prefilling one short prompt costs nearly as
        much as prefilling eight."""
        free = self.capacity - len(self.request)
        if free < min(len(self.waiting), max(1, self.capacity // 8)):
            return
        new = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        first = len(self.request)
        fresh: dict[tuple[int, ...], list[int]] = {}
        for row, number in enumerate(new, start=first):
            fresh.setdefault(self.requests[number].prompt[:-1], []).append(row)
        self.cache.reserve(max(map(len, fresh)) + 1, self.limit)
        self._copy_active(fresh)
        self._prefill({prefix: rows for prefix, rows in fresh.items() if prefix})
        chosen = [self.requests[number] for number in new]
        device = self.weights.device
        self.request = np.concatenate((self.request, np.array(new)))
        self.positions = np.concatenate((self.positions, np.array([len(r.prompt) - 1 for r in chosen])))
        self.left = np.concatenate((self.left, np.array([r.max_new_tokens for r in chosen])))
        self.seeds = torch.cat((self.seeds, torch.tensor([r.seed for r in chosen], device=device)))
        self.counters = torch.cat((self.counters, torch.tensor([r.rng_offset for r in chosen], device=device)))
        self.tokens = torch.cat((self.tokens, torch.tensor([r.prompt[-1] for r in chosen], device=device)))

    def _copy_active(self, fresh: dict[tuple[int, ...], list[int]]) -> None:
        """Copies the prefixes that an active row has already computed, and removes them from `fresh`."""
        active = {self.requests[number].prompt[:-1]: row for row, number in enumerate(self.request.tolist())}
        for prefix in [p for p in fresh if p and p in active]:
            rows = np.array(fresh.pop(prefix))
            self.cache.move(np.full_like(rows, active[prefix]), rows, len(prefix))

    def _prefill(self, fresh: dict[tuple[int, ...], list[int]]) -> None:
        """Computes prefixes, in batches of similar length."""
        prefixes = deque(sorted(fresh, key=len, reverse=True))
        while prefixes:
            length = len(prefixes[0])
            group = [prefixes.popleft() for _ in range(min(len(prefixes), max(1, _PREFILL_TOKENS // length)))]
            tokens = np.zeros((len(group), length), dtype=np.int64)
            for row, prefix in enumerate(group):
                tokens[row, : len(prefix)] = prefix
            tokens_BT = torch.from_numpy(tokens).to(self.weights.device)
            rows_of = [fresh[prefix] for prefix in group]
            if isinstance(self.cache, TokenCache):
                self.cache.prefill(tokens_BT, rows_of)
            else:
                prefill(self.cache.weights, self.cache, tokens_BT, rows_of)

    def _retire(self, done: np.ndarray) -> None:
        """Removes finished rows. Rows from the end are moved into the gaps, so that active rows still come first."""
        n = int((~done).sum())
        order = np.arange(len(done))
        gaps, movers = np.flatnonzero(done[:n]), n + np.flatnonzero(~done[n:])
        order[gaps] = movers
        order = order[:n]
        if len(gaps):
            self.cache.move(movers, gaps, int(self.positions[movers].max()))
        self.request, self.positions, self.left = self.request[order], self.positions[order], self.left[order]
        kept = torch.from_numpy(order).to(self.weights.device)
        self.seeds, self.counters, self.tokens = self.seeds[kept], self.counters[kept], self.tokens[kept]

    def completions(self, version: int) -> list[Completion]:
        """Splits the history into one completion per request."""
        owner = np.concatenate([numbers for numbers, _, _ in self.history])
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(self.requests) + 1))
        tokens = np.concatenate([drawn for _, drawn, _ in self.history])[order]
        logprobs = torch.cat([values for _, _, values in self.history]).cpu().numpy()[order]
        if not np.isfinite(logprobs).all():
            raise UserError(
                "the model's logits are not finite, so its weights have diverged or are corrupt; use a different model"
            )
        found = []
        for start, end in pairwise(bounds.tolist()):
            ids = tokens[start:end].tolist()
            reason = "stop" if self.stops[ids[-1]] else "length"
            found.append(Completion(ids, logprobs[start:end].tolist(), [version] * len(ids), reason))
        return found


def _new_cache(weights: Weights | PlainWeights, rows: int, length: int) -> Cache | TokenCache:
    if isinstance(weights, PlainWeights):
        return TokenCache(weights, rows, length)
    return Cache(weights, rows, length)
