"""Generation with tools: a sequence stops at `</tool_call>`, the tool answers, the sequence goes on.

What a tool writes is forced: it has no log-probability, carries no loss and is not counted in max_new_tokens. In chat
form the response stands in a user turn of its own, in document form in the page itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from thinkling.data.conversations import render_tool_turn
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Completion, Engine, FinishReason, Request, Sampling
from thinkling.generate.tools import answer_call

Form = Literal["chat", "document"]
OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass
class _Sequence:
    """One request on its way."""

    request: Request
    left: int
    """Tokens that the model may still write."""
    calls: int = 0
    inside: bool = False
    """Between `<tool_call>` and `</tool_call>`; document form only."""
    finish_reason: FinishReason | None = None
    done: Completion = field(default_factory=lambda: Completion([], [], [], "stop"))

    def next_request(self) -> Request:
        tokens = self.done.tokens
        return replace(
            self.request,
            prompt=(*self.request.prompt, *tokens),
            max_new_tokens=self.left,
            rng_offset=self.request.rng_offset + len(tokens),
        )

    def append(self, tokens: Sequence[int], logprobs: Sequence[float], versions: Sequence[int], forced: bool) -> None:
        self.done.tokens += tokens
        self.done.logprobs += logprobs
        self.done.versions += versions
        self.done.forced += [forced] * len(tokens)


def generate_with_tools(
    engine: Engine,
    requests: Sequence[Request],
    sampling: Sampling,
    tokenizer: Tokenizer,
    form: Form,
    max_calls: int = 3,
) -> list[Completion]:
    """One completion a request, in order, with the responses of at most `max_calls` tools in it.

    A call that cannot be read, an unknown tool and a tool that fails are answered with a line starting `error:`. A
    tokenizer without the tags generates without tools. In document form a newline inside a call does not stop, though
    it is among the stop ids. Continuations draw on with the request's own random numbers.
    """
    sequences = [_Sequence(request, request.max_new_tokens) for request in requests]
    has_tags = tokenizer.has_token(OPEN) and tokenizer.has_token(CLOSE)
    limit = max_calls if has_tags else 0
    active = sequences
    while active:
        groups: dict[frozenset[int], list[_Sequence]] = {}
        for sequence in active:
            groups.setdefault(_stop_ids(sequence, sampling.stop_ids, tokenizer, form, limit), []).append(sequence)
        for stop_ids, group in groups.items():
            asked = [sequence.next_request() for sequence in group]
            completions = engine.generate(asked, replace(sampling, stop_ids=stop_ids))
            for sequence, completion in zip(group, completions, strict=True):
                _go_on(sequence, completion, engine.version, tokenizer, form, limit)
        active = [sequence for sequence in active if sequence.finish_reason is None]
    for sequence in sequences:
        sequence.done.finish_reason = sequence.finish_reason or "length"
    return [sequence.done for sequence in sequences]


@lru_cache(maxsize=8)
def newline_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of the tokens with a newline in them; with our pre-split they hold white space alone."""
    return frozenset(i for i in range(tokenizer.vocab_size) if "\n" in tokenizer.decode([i]))


def _stop_ids(
    sequence: _Sequence, ends: frozenset[int], tokenizer: Tokenizer, form: Form, limit: int
) -> frozenset[int]:
    """Where a sequence stops next: at its end, or where a tool comes in."""
    if sequence.inside:
        return (ends - newline_ids(tokenizer)) | {tokenizer.token_id(CLOSE)}
    if sequence.calls >= limit:
        return ends
    return ends | {tokenizer.token_id(CLOSE if form == "chat" else OPEN)}


def _go_on(
    sequence: _Sequence, completion: Completion, version: int, tokenizer: Tokenizer, form: Form, limit: int
) -> None:
    """Takes a round's tokens over, and the tool's response where they end in a call."""
    sequence.append(completion.tokens, completion.logprobs, completion.versions, forced=False)
    sequence.left -= len(completion.tokens)
    if completion.finish_reason == "length":
        sequence.finish_reason = "length"
        return
    last = completion.tokens[-1]
    calling = sequence.calls < limit
    if calling and last == tokenizer.token_id(CLOSE) and (sequence.inside or form == "chat"):
        response = _response(sequence.done, tokenizer, form)
        sequence.append(response, [0.0] * len(response), [version] * len(response), forced=True)
        sequence.calls += 1
        sequence.inside = False
    elif calling and last == tokenizer.token_id(OPEN) and form == "document" and not sequence.inside:
        sequence.inside = True
    else:
        sequence.finish_reason = "stop"
        return
    if sequence.left == 0:
        sequence.finish_reason = "length"


def _response(done: Completion, tokenizer: Tokenizer, form: Form) -> list[int]:
    """Token ids that follow the `</tool_call>` at the end."""
    opening = tokenizer.token_id(OPEN)
    start = len(done.tokens) - 1
    while start > 0 and not done.forced[start - 1] and done.tokens[start] != opening:
        start -= 1
    body = done.tokens[start + 1 : -1] if done.tokens[start] == opening else []
    result = answer_call(tokenizer.decode(body))
    if form == "chat":
        return render_tool_turn([result], tokenizer).tolist()
    # The result alone is plain text: no tool, and no model through one, can write a tag.
    pieces = (("\n<tool_response>", True), (f"\n{result}\n", False), ("</tool_response>\n", True))
    return [int(i) for text, markup in pieces for i in tokenizer.encode(text, markup=markup)]
