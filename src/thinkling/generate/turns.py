"""Generation with tools: a sequence pauses at the end of a call, the tool answers, and generation continues.

If a token closes the model's calls, generation pauses at that token. Otherwise (if calls are written as plain text, or
a call is a whole turn) the model finishes its turn, and all calls that can be parsed from the turn are answered, in
order; text after a call remains in the sequence but is not an answer. Tool output is forced: it has no log-probability
and no loss, and does not count towards max_new_tokens. The renderer determines how a response is inserted into the
sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from thinkling.data.reading import Call
from thinkling.generate.engine import Completion, Engine, FinishReason, Request, Sampling
from thinkling.generate.hermes import read_call
from thinkling.generate.renderer import Renderer
from thinkling.generate.tools import Toolbox, answer_all, keeps_state

MAX_CALLS = 3
MOST_WITH_SESSIONS = 128
"""Maximum number of samples generated together if a tool has state. Each sample may need a process of about 15 MB
until the sample is finished."""


@dataclass
class _Sequence:
    """One request in progress."""

    request: Request
    tools: Toolbox
    left: int
    """Number of tokens that the model may still write."""
    calls: int = 0
    inside: bool = False
    """Whether the sequence is inside a call. This field is only used if generation pauses at the start of a call."""
    asked: list[Call | None] = field(default_factory=list)
    """Calls that wait for a tool's answer; None for a call that cannot be parsed."""
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

    def turn(self) -> list[int]:
        """Returns the model's tokens since the last tool response."""
        start = len(self.done.tokens)
        while start > 0 and not self.done.forced[start - 1]:
            start -= 1
        return self.done.tokens[start:]

    def finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self.tools.close()


def generate_with_tools(
    engine: Engine,
    requests: Sequence[Request],
    tools: Sequence[Sequence[str]],
    sampling: Sampling,
    renderer: Renderer,
    max_calls: int = MAX_CALLS,
) -> list[Completion]:
    """Returns one completion per request, in order, including the responses to at most `max_calls` calls.

    `tools`: names of each request's tools. The answer to a call is a line that starts with `error:` if the call cannot
    be parsed, if the request does not have the tool, or if the tool fails. A model without a known call format
    generates without tools. The renderer's stop ids are added to those of `sampling`. Continuations draw from the
    request's own stream of random numbers. A tool's state for a request is discarded with the request, even if an
    exception ends generation.

    Raises UserError for an unknown tool, or if a tool cannot run on this machine.
    """
    stateful = max_calls > 0 and renderer.calls_tools and any(map(keeps_state, set(map(tuple, tools))))
    at_once = MOST_WITH_SESSIONS if stateful else max(1, len(requests))
    found: list[Completion] = []
    for start in range(0, len(requests), at_once):
        with ExitStack() as stack:
            sequences = []
            for request, names in zip(requests[start : start + at_once], tools[start : start + at_once], strict=True):
                toolbox = Toolbox(names)
                stack.callback(toolbox.close)
                sequences.append(_Sequence(request, toolbox, request.max_new_tokens))
            _generate(engine, sequences, sampling, renderer, max_calls)
            found += [sequence.done for sequence in sequences]
    return found


def _generate(
    engine: Engine, sequences: Sequence[_Sequence], sampling: Sampling, renderer: Renderer, max_calls: int
) -> None:
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
                turns.take(sequence, completion)
        turns.answer([sequence for sequence in active if sequence.asked], engine.version)
        active = [sequence for sequence in active if sequence.finish_reason is None]
    for sequence in sequences:
        sequence.done.finish_reason = sequence.finish_reason or "length"


@dataclass(frozen=True)
class _Turns:
    """Determines where sequences pause and how they continue."""

    renderer: Renderer
    ends: frozenset[int]
    """Tokens that end a sequence outside calls."""
    max_calls: int

    def stop_ids(self, sequence: _Sequence) -> frozenset[int]:
        """Tokens at which a sequence stops next, either because it ends or because a tool is called."""
        renderer = self.renderer
        if sequence.inside:
            assert renderer.call_closing is not None
            return (self.ends - (renderer.stop_ids - renderer.call_stop_ids)) | {renderer.call_closing}
        if sequence.calls >= self.max_calls or not renderer.answers_at_tag:
            return self.ends
        pause = renderer.call_opening if renderer.pauses_at_call else renderer.call_closing
        assert pause is not None
        return self.ends | {pause}

    def take(self, sequence: _Sequence, completion: Completion) -> None:
        """Appends the tokens of one round of generation and records the calls with which they end."""
        sequence.append(completion.tokens, completion.logprobs, completion.versions, forced=False)
        sequence.left -= len(completion.tokens)
        if completion.finish_reason == "length":
            sequence.finish("length")
            return
        if sequence.calls < self.max_calls:
            if self.renderer.answers_at_tag:
                self._at_tag(sequence, completion.tokens[-1])
            elif sequence.tools.names:
                sequence.asked = [*self.renderer.calls_in(sequence.turn())]
        if not sequence.asked and not sequence.inside:
            sequence.finish("stop")
        elif sequence.inside and sequence.left == 0:
            sequence.finish("length")

    def answer(self, sequences: Sequence[_Sequence], version: int) -> None:
        """Runs the tools that were called and inserts their responses into the sequences."""
        room = [self.max_calls - sequence.calls for sequence in sequences]
        asked = [(sequence.tools, sequence.asked[:most]) for sequence, most in zip(sequences, room, strict=True)]
        for sequence, results in zip(sequences, answer_all(asked), strict=True):
            results += [f"error: more than {self.max_calls} calls"] * (len(sequence.asked) - len(results))
            known = [call for call in sequence.asked if call is not None]
            response = self.renderer.tool_turn(results, known)
            sequence.append(response, [0.0] * len(response), [version] * len(response), forced=True)
            sequence.calls += len(results)
            sequence.asked = []
            if sequence.left == 0:
                sequence.finish("length")

    def _at_tag(self, sequence: _Sequence, last: int) -> None:
        pauses = self.renderer.pauses_at_call
        if last == self.renderer.call_closing and (sequence.inside or not pauses):
            sequence.asked = [self._call_at_end(sequence.turn())]
            sequence.inside = False
        elif last == self.renderer.call_opening and pauses and not sequence.inside:
            sequence.inside = True
        else:
            sequence.inside = False

    def _call_at_end(self, turn: Sequence[int]) -> Call | None:
        """Returns the call that the turn's last token closes; None if the call cannot be parsed."""
        opening = self.renderer.call_opening
        start = max((i for i, token in enumerate(turn) if token == opening), default=None)
        return None if start is None else read_call(self.renderer.tokenizer.decode(turn[start + 1 : -1]))
