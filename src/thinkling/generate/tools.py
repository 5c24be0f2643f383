"""Generation with tools: a model that ends at `</tool_call>` gets the tool's response and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from thinkling.data.conversations import render_tool_turn
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Completion, Engine, Request, Sampling
from thinkling.tasks.tools import answer_call

Form = Literal["chat", "document"]
MAX_CALLS = 3
CALL_START, CALL_END = "<tool_call>", "</tool_call>"


def generate_with_tools(
    engine: Engine,
    requests: Sequence[Request],
    sampling: Sampling,
    tokenizer: Tokenizer,
    form: Form,
    max_calls: int = MAX_CALLS,
) -> list[Completion]:
    """One completion a request, the tools' responses in it marked as forced (log-prob 0.0, no loss).

    `max_new_tokens` counts the model's own tokens. A call after the `max_calls`-th gets no response: the completion ends
    there. A tokenizer without tool tags gives plain generation.
    """
    if not tokenizer.has_token(CALL_END):
        return engine.generate(requests, sampling)
    call_end = tokenizer.token_id(CALL_END)
    stopping = replace(sampling, stop_ids=sampling.stop_ids | {call_end})
    done = [Completion([], [], [], "length") for _ in requests]
    active, calls = list(range(len(requests))), 0
    while active:
        round_ = engine.generate([_continued(requests[i], done[i]) for i in active], stopping)
        going_on = []
        for i, part in zip(active, round_, strict=True):
            _append(done[i], part)
            calling = part.finish_reason == "stop" and part.tokens[-1] == call_end
            if not calling or calls == max_calls or call_end in sampling.stop_ids:
                continue
            _force(done[i], tool_turn(call_body(part.tokens, tokenizer), tokenizer, form), part.versions[-1])
            if model_tokens(done[i]) < requests[i].max_new_tokens:
                going_on.append(i)
            else:
                done[i].finish_reason = "length"
        active, calls = going_on, calls + 1
    return done


def call_body(tokens: Sequence[int], tokenizer: Tokenizer) -> str:
    """Text of the last call: between the last `<tool_call>` and the `</tool_call>` that ends the tokens."""
    start = tokenizer.token_id(CALL_START)
    last = max((i for i, token in enumerate(tokens) if token == start), default=-1)
    return tokenizer.decode(tokens[last + 1 : -1]) if last >= 0 else ""


def tool_turn(body: str, tokenizer: Tokenizer, form: Form) -> np.ndarray:
    """Token ids, int32 (T,), that follow a sampled `</tool_call>`: the response, and in chat form the turns around it.

    The response itself is encoded as plain text: what a tool says never becomes a special token.
    """
    result = answer_call(body)
    if form == "chat":
        return render_tool_turn([result], tokenizer)
    parts = [("\n<tool_response>\n", True), (result, False), ("\n</tool_response>\n", True)]
    return np.concatenate([tokenizer.encode(text, markup=markup) for text, markup in parts])


def model_tokens(completion: Completion) -> int:
    """Tokens that the model itself wrote."""
    return len(completion.tokens) - sum(completion.forced)


def _continued(request: Request, so_far: Completion) -> Request:
    used = model_tokens(so_far)
    return Request(
        prompt=request.prompt + tuple(so_far.tokens),
        seed=request.seed,
        max_new_tokens=request.max_new_tokens - used,
        rng_offset=request.rng_offset + used,
    )


def _append(completion: Completion, part: Completion) -> None:
    completion.tokens += part.tokens
    completion.logprobs += part.logprobs
    completion.versions += part.versions
    completion.forced += part.forced
    completion.finish_reason = part.finish_reason


def _force(completion: Completion, ids: np.ndarray, version: int) -> None:
    n = len(ids)
    completion.tokens += ids.tolist()
    completion.logprobs += [0.0] * n
    completion.versions += [version] * n
    completion.forced += [True] * n
