"""Generation with tools: a sequence pauses where a call closes, the tool answers, the sequence goes on.

What a tool writes is forced: it has no log-probability, carries no loss and is not counted in max_new_tokens. How a
response is put into the sequence is the renderer's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from thinkling.generate.engine import Completion, Engine, FinishReason, Request, Sampling
from thinkling.generate.renderer import Renderer
from thinkling.generate.tools import answer_call

MAX_CALLS = 3


@dataclass
class _Sequence:
    """One request on its way."""

    request: Request
    tools: Sequence[str]
    left: int
    """Tokens that the model may still write."""
    calls: int = 0
    inside: bool = False
    """Inside a call; only where generation pauses as one opens."""
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
    tools: Sequence[Sequence[str]],
    sampling: Sampling,
    renderer: Renderer,
    max_calls: int = MAX_CALLS,
) -> list[Completion]:
    """One completion per request, in order, with the responses to at most `max_calls` calls in it.

    `tools`: names of the tools of each request. A call that cannot be read, a tool that the request does not have and a
    tool that fails are answered with a line starting `error:`. A vocabulary without call tokens generates without
    tools. The renderer's stop ids are added to those of `sampling`. Continuations draw on with the request's own random
    numbers.
    """
    sequences = [_Sequence(r, names, r.max_new_tokens) for r, names in zip(requests, tools, strict=True)]
    turns = _Turns(renderer, sampling.stop_ids | renderer.stop_ids, max_calls if renderer.calls_tools else 0)
    active = sequences
    while active:
        groups: dict[frozenset[int], list[_Sequence]] = {}
        for sequence in active:
            groups.setdefault(turns.stop_ids(sequence), []).append(sequence)
        for stop_ids, group in groups.items():
            asked = [sequence.next_request() for sequence in group]
            completions = engine.generate(asked, replace(sampling, stop_ids=stop_ids))
            for sequence, completion in zip(group, completions, strict=True):
                turns.go_on(sequence, completion, engine.version)
        active = [sequence for sequence in active if sequence.finish_reason is None]
    for sequence in sequences:
        sequence.done.finish_reason = sequence.finish_reason or "length"
    return [sequence.done for sequence in sequences]


@dataclass(frozen=True)
class _Turns:
    """Where sequences pause and how they go on."""

    renderer: Renderer
    ends: frozenset[int]
    """Tokens that end a sequence outside calls."""
    max_calls: int

    def stop_ids(self, sequence: _Sequence) -> frozenset[int]:
        """Where a sequence stops next: at its end, or where a tool comes in."""
        renderer = self.renderer
        if sequence.inside:
            assert renderer.call_closing is not None
            return (self.ends - (renderer.stop_ids - renderer.call_stop_ids)) | {renderer.call_closing}
        if sequence.calls >= self.max_calls:
            return self.ends
        pause = renderer.call_opening if renderer.pauses_at_call else renderer.call_closing
        assert pause is not None
        return self.ends | {pause}

    def go_on(self, sequence: _Sequence, completion: Completion, version: int) -> None:
        """Takes a round's tokens over, and the tool's response where they end in a call."""
        sequence.append(completion.tokens, completion.logprobs, completion.versions, forced=False)
        sequence.left -= len(completion.tokens)
        if completion.finish_reason == "length":
            sequence.finish_reason = "length"
            return
        last = completion.tokens[-1]
        calling = sequence.calls < self.max_calls
        pauses = self.renderer.pauses_at_call
        if calling and last == self.renderer.call_closing and (sequence.inside or not pauses):
            response = self._response(sequence)
            sequence.append(response, [0.0] * len(response), [version] * len(response), forced=True)
            sequence.calls += 1
            sequence.inside = False
        elif calling and last == self.renderer.call_opening and pauses and not sequence.inside:
            sequence.inside = True
        else:
            sequence.finish_reason = "stop"
            return
        if sequence.left == 0:
            sequence.finish_reason = "length"

    def _response(self, sequence: _Sequence) -> list[int]:
        """Token ids that follow the closing token at the end of the sequence."""
        done, opening = sequence.done, self.renderer.call_opening
        start = len(done.tokens) - 1
        while start > 0 and not done.forced[start - 1] and done.tokens[start] != opening:
            start -= 1
        body = done.tokens[start + 1 : -1] if done.tokens[start] == opening else []
        return self.renderer.tool_turn([answer_call(self.renderer.tokenizer.decode(body), sequence.tools)])
