"""The renderer of a model directory builds prompts, determines where an answer ends, and parses answers.

Only this module determines how turns begin and end. The renderer works on tokens: a stop token is removed by its id, so
that no family's end-of-turn token can remain in an answer. A tool's turns are distinguished from the model's own turns
by their tokens, which are marked as forced.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thinkling.data.chat_marks import written_by_template
from thinkling.data.chat_rendering import CURE, REASONING_TAGS
from thinkling.data.chat_template import (
    ChatTemplate,
    EncodedChat,
    Message,
    encode_chat,
    encode_prompt,
    special_spellings,
)
from thinkling.data.conversations import checked, tool_call
from thinkling.data.loss_spans import header_of
from thinkling.data.reading import Call, Part, Reading
from thinkling.data.reasoning_marks import without_spelled
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate import hermes
from thinkling.generate.call_formats import END_OF_MESSAGE, FORMATS, HERMES, PROBE, CallFormat, format_of
from thinkling.generate.chat import chat_template, export_chat
from thinkling.generate.config import ChatConfig
from thinkling.generate.hermes import Piece
from thinkling.generate.tools import listings
from thinkling.plugins import Registry
from thinkling.tasks.problem import Problem

GROUP = "thinkling.renderers"
_READS_REASONING = re.compile(r"reasoning_content|\.thinking\b|\[['\"]thinking['\"]\]")
_PLACEHOLDER = "zzRESULTzz"


class Written(Protocol):
    """The tokens after a prompt: a completion or a stored rollout."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def forced(self) -> Sequence[bool]:
        """True for tokens written by a tool."""
        ...


class Renderer:
    """Converts messages to tokens and back, with a model's own tokenizer and chat template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer, self.template = tokenizer, template

    @classmethod
    def load(cls, directory: Path, chat: ChatConfig | None = None) -> Renderer:
        """Loads the renderer of a Hugging Face directory. Raises UserError if the directory has no tokenizer, or lacks
        the chat template that `chat` asks for."""
        tokenizer = Tokenizer.load(directory)
        return cls(tokenizer, chat_template(directory, tokenizer, chat or ChatConfig()))

    def export(self, directory: Path) -> None:
        """Writes this renderer's template and stop tokens into a model directory that already has its tokenizer's
        files, so that transformers and vLLM render the same text and stop at the same tokens."""
        export_chat(directory, self.template, self.tokenizer, self._ends_turn | set(self.tokenizer.eos_ids))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> np.ndarray:
        """Token ids, int32 (T,), up to the start of the assistant's next turn. `tools`: as returned by `Tool.listing`.

        Raises UserError if the messages are malformed, or if the template fails, does not write the tools, or writes
        reasoning in tags that cannot be parsed in a reply.
        """
        self._check_tags()
        return encode_prompt(self.template, checked(messages), self.tokenizer, tools)

    def prompt_of(self, problem: Problem) -> np.ndarray:
        """Token ids, int32 (T,), of a problem's prompt: the system message, if there is one, a user turn with the
        question, and the tools, if the problem announces them. Raises UserError for an unknown tool, or if this model's
        template does not support tools."""
        announced = listings(problem.tools) if problem.tools and problem.announce_tools else None
        if announced and not self.calls_tools:
            raise UserError(
                f"chat template {self.template.name}: it does not write tool calls in a known format "
                f"({', '.join(one.name for one in FORMATS)}), so the model cannot call {problem.tools[0]!r}; use a "
                "model whose template writes them in one of these, or problems without tools"
            )
        system = [{"role": "system", "content": problem.system}] if problem.system else []
        return self.prompt([*system, {"role": "user", "content": problem.question}], announced)

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, int32 (T,), and loss mask, bool (T,): true for the assistant's text, including its stop token.

        Raises UserError if the messages are malformed or the template fails."""
        encoded = self.encoded(messages, tools)
        return encoded.ids, encoded.loss

    def encoded(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> EncodedChat:
        """Like `encode`, but also returns the number of assistant turns that have no loss."""
        return encode_chat(self.template, checked(messages), self.tokenizer, tools)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer or a turn with calls: the stop tokens of the tokenizer and its configuration, the
        stop tokens of the call format, and the token that ends a turn in the template."""
        stops = self.call_format.stops if self.call_format else ()
        known = {self.tokenizer.token_id(stop) for stop in stops if self.tokenizer.has_token(stop)}
        return self.tokenizer.stop_ids | known | self._ends_turn

    @cached_property
    def _ends_turn(self) -> frozenset[int]:
        """Set with one element, the token with which the template ends the assistant's turn, ignoring whitespace after
        that token. The set is empty if the template does not end the turn with a special token."""
        try:
            ids, loss = self.encode([{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}])
        except UserError:
            return frozenset()
        for token in reversed(ids[loss].tolist()):
            spelled = self.tokenizer.decode([token])
            if special_spellings(self.tokenizer).fullmatch(spelled):
                return frozenset({token})
            if spelled.strip():
                break
        return frozenset()

    @property
    def call_stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer inside a tool call. If they differ from `stop_ids`, generation also pauses at the
        start of a call."""
        return self.stop_ids

    @property
    def pauses_at_call(self) -> bool:
        """Whether stop tokens differ inside and outside a call, so that generation has to pause at the start of a
        call."""
        return self.call_stop_ids != self.stop_ids

    @cached_property
    def call_format(self) -> CallFormat | None:
        """The format in which the model's template writes calls; None if the template drops calls or uses an unknown
        format."""
        try:
            asked, called = (self._ids_before_reply(messages) for messages in ([], [_call_turn([PROBE])]))
        except UserError:  # a template may reject calls
            return None
        stops = {*self.tokenizer.stop_ids, self._token(END_OF_MESSAGE)}
        turn = called[_common(asked, called) :]
        return format_of(self.tokenizer.decode(turn[: _first_of(stops, turn)]))

    @property
    def calls_tools(self) -> bool:
        """Whether the model can call tools. Without a known call format, no tool is run."""
        return self.call_format is not None

    @cached_property
    def answers_at_tag(self) -> bool:
        """Whether a call is answered as soon as the model writes the token that closes the call. Otherwise the model
        finishes its turn, and all calls in the turn are answered."""
        return self.calls_tools and self.call_opening is not None and self.call_closing is not None

    @cached_property
    def call_opening(self) -> int | None:
        """The token that opens a tool call, or None if the model's format or vocabulary has none."""
        return self._token(hermes.OPENING) if self.call_format and self.call_format.pauses else None

    @cached_property
    def call_closing(self) -> int | None:
        """The token that closes a tool call, or None if the model's format or vocabulary has none."""
        return self._token(hermes.CLOSING) if self.call_format and self.call_format.pauses else None

    def tool_turn(self, results: Sequence[str], calls: Sequence[Call] = ()) -> list[int]:
        """Token ids of the tools' responses and the start of the assistant's next turn, as written by the model's own
        template. These tokens follow a call's closing token or, if generation does not pause at closing tokens, the
        token that ends the turn with `calls`.

        `calls`: the answered calls, as far as they are known; a template may repeat their names and ids in a response.
        Raises UserError if the template cannot write a call or a tool's response.
        """
        if self.call_format is None:
            raise UserError(
                f"chat template {self.template.name}: it does not write a tool call in a known format; "
                "use a model whose template does, or remove the tools"
            )
        called = _call_turn(calls or [Call("x", {})])
        answered = [called]
        for i, result in enumerate(results):
            function = called["tool_calls"][min(i, len(called["tool_calls"]) - 1)]
            named = {"tool_call_id": function["id"], "name": function["function"]["name"]}
            answered.append({"role": "tool", "content": result, **named})
        ids = self._ids_before_reply(answered)
        start = 0 if self.answers_at_tag else _common(self._ids_of_question, ids)
        ends = {self.call_closing} if self.answers_at_tag else self.stop_ids
        return ids[start + _first_of(ends, ids[start:]) + 1 :]

    def calls_in(self, tokens: Sequence[int]) -> list[Call]:
        """Returns the calls in one turn of the model that can be parsed."""
        return self._take_calls(tokens)[2]

    def read(self, completion: Written) -> Reading:
        """Parses a completion of this model. A completion that cannot be parsed has no answer; answers are never
        guessed."""
        runs = list(_runs(completion))
        reasoning: list[str] = []
        calls: list[Call] = []
        found: list[Call] = []
        parts: list[Part] = []
        answer: str | None = None
        well_formed = True
        for number, (forced, tokens) in enumerate(runs):
            if forced:
                parts += [Part("response", result) for result in self._responses(tokens, found)]
                continue
            block, said, found = self._take_calls(tokens)
            last = number == len(runs) - 1
            well_formed = well_formed and not any(is_tag for is_tag, _ in said) and (last or bool(found))
            # A call in the last turn has no response, so the text around the call is not an answer.
            answer = None if found or any(is_tag for is_tag, _ in said) else _joined(said).strip() or None
            calls += found
            if block.strip():
                reasoning.append(block)
                parts.append(Part("reasoning", block))
            parts += [Part("call", f"{call.name} {dict(call.arguments)}") for call in found]
            if (text := _joined(said)).strip():
                parts.append(Part("answer", text.lstrip("\n")))
        return Reading(
            reasoning="\n\n".join(reasoning),
            answer=answer,
            calls=tuple(calls),
            well_formed=well_formed and answer is not None,
            text=self.tokenizer.decode(completion.tokens),
            parts=tuple(parts),
        )

    def _take_calls(self, tokens: Sequence[int]) -> tuple[str, list[Piece], list[Call]]:
        """Splits one turn into the reasoning, the remaining text, and the calls that can be parsed."""
        block, rest = self._split_reasoning(self._split_tags(self._before_stop(tokens)))
        said, found = (self.call_format or HERMES).take(rest or [])
        return block, said, found

    def _split_tags(self, tokens: Sequence[int]) -> list[Piece]:
        """Splits a turn at its tags. A tag that is a token of the vocabulary is found by its id, so that an answer may
        contain the tag's spelling; any other tag is found by its spelling."""
        pieces: list[Piece] = []
        start = 0
        for i, token in enumerate([*tokens, None]):
            if token is not None and token not in self._tag_tokens:
                continue
            if i > start:
                text = self.tokenizer.decode(tokens[start:i])
                cut = self._spelled_tags.split(text) if self._spelled_tags else [text]
                pieces += [(bool(number % 2), piece) for number, piece in enumerate(cut) if piece]
            if token is not None:
                pieces.append((True, self._tag_tokens[token]))
            start = i + 1
        return pieces

    def _split_reasoning(self, turn: list[Piece]) -> tuple[str, list[Piece] | None]:
        """Splits a turn into the reasoning and the rest; the rest is None if the reasoning never ends. The reasoning
        ends at the last closing tag that is not merely quoted (reasoning_marks.py)."""
        opening, closing = self._tags
        turn = without_spelled(turn, self._tags, inside=self._opens_reasoning)
        if turn[:1] and not turn[0][0] and not turn[0][1].strip() and turn[1:2] == [(True, opening)]:
            turn = turn[1:]  # some templates write whitespace before the opening tag
        opened = turn[:1] == [(True, opening)]
        inner = turn[1:] if opened else turn
        end = max((i for i, piece in enumerate(inner) if piece == (True, closing)), default=None)
        if end is not None:
            block = _joined(inner[:end]).removeprefix("\n").removesuffix("\n")
            return block, inner[end + 1 :]
        if opened or self._opens_reasoning:
            return _joined(inner).removeprefix("\n"), None
        return "", turn

    def _before_stop(self, tokens: Sequence[int]) -> Sequence[int]:
        return tokens[: _first_of(self.stop_ids, tokens)]

    def _responses(self, tokens: Sequence[int], calls: Sequence[Call]) -> list[str]:
        """Returns the tools' results, without the text that the template writes around them."""
        frame = self._response_frame if self.answers_at_tag else self._frame_of(calls)
        text = self.tokenizer.decode(tokens)
        found = re.fullmatch("(.*?)".join(map(re.escape, frame)), text, re.DOTALL)
        return list(found.groups()) if found else [text]

    @cached_property
    def _response_frame(self) -> list[str]:
        return self._frame_of([])

    def _frame_of(self, calls: Sequence[Call]) -> list[str]:
        turn = self.tool_turn([_PLACEHOLDER] * max(1, len(calls)), calls)
        return self.tokenizer.decode(turn).split(_PLACEHOLDER)

    @cached_property
    def _ids_of_question(self) -> list[int]:
        return self._ids_before_reply([])

    def _ids_before_reply(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a user turn and these messages, up to the start of the assistant's next turn."""
        conversation = checked([{"role": "user", "content": "x"}, *messages])
        return encode_prompt(self.template, conversation, self.tokenizer).tolist()

    @cached_property
    def _tags(self) -> tuple[str, str]:
        """The tags around this model's reasoning; the tags of thinkling's template if the model's template writes no
        reasoning."""
        return next((tags for tags in REASONING_TAGS if tags[1] in self.template.source), REASONING_TAGS[0])

    def _check_tags(self) -> None:
        source = self.template.source
        if _READS_REASONING.search(source) and self._tags[1] not in source:
            raise UserError(
                f"chat template {self.template.name}: it writes reasoning in unknown tags, so the reasoning would be "
                f"mistaken for the answer; the known tags are {', '.join(a for a, _ in REASONING_TAGS)}; {CURE}"
            )

    @cached_property
    def _header(self) -> str:
        """The text that opens the assistant's turn; empty if the template does not write any."""
        return header_of(self.template, written_by_template(special_spellings(self.tokenizer)))

    @cached_property
    def _opens_reasoning(self) -> bool:
        """Whether the prompt itself opens the reasoning, so that a completion starts inside it."""
        opening, closing = self._tags
        return opening in self._header and closing not in self._header.rpartition(opening)[2]

    @cached_property
    def _all_tags(self) -> tuple[str, ...]:
        """Tags of reasoning and calls, and special tokens that open a turn. None of them can be part of an answer."""
        openings = re.findall(special_spellings(self.tokenizer), self._header)
        return tuple(dict.fromkeys((*self._tags, *(self.call_format or HERMES).tags, *openings)))

    @cached_property
    def _tag_tokens(self) -> dict[int, str]:
        return {self.tokenizer.token_id(tag): tag for tag in self._all_tags if self.tokenizer.has_token(tag)}

    @cached_property
    def _spelled_tags(self) -> re.Pattern[str] | None:
        spelled = [re.escape(tag) for tag in self._all_tags if not self.tokenizer.has_token(tag)]
        return re.compile(f"({'|'.join(spelled)})") if spelled else None

    def _token(self, spelling: str) -> int | None:
        return self.tokenizer.token_id(spelling) if self.tokenizer.has_token(spelling) else None


def _call_turn(calls: Sequence[Call]) -> dict[str, Any]:
    """Returns an assistant turn with these calls. Some templates require call ids of nine letters and digits."""
    written = [tool_call(call.name, call.arguments, call.id or f"{i:09d}") for i, call in enumerate(calls)]
    return {"role": "assistant", "content": "", "tool_calls": written}


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix."""
    differ = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def _first_of(wanted: Collection[int | None], tokens: Sequence[int]) -> int:
    """Index of the first wanted token; the number of tokens if there is none."""
    return next((i for i, token in enumerate(tokens) if token in wanted), len(tokens))


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(text for _, text in pieces)


def _runs(completion: Written) -> Iterator[tuple[bool, Sequence[int]]]:
    """Yields alternating runs of forced tokens and the model's own tokens. The last run is always the model's own and
    may be empty."""
    tokens, forced = completion.tokens, completion.forced
    start = 0
    for i in range(1, len(tokens) + 1):
        if i == len(tokens) or forced[i] != forced[start]:
            yield forced[start], tokens[start:i]
            start = i
    if not tokens or forced[-1]:
        yield False, []


RENDERERS = Registry("renderer", GROUP, {"chat": "thinkling.generate.renderer:Renderer"})
"""Renderers by name, which convert the problems of a task set to prompts. `chat` writes a problem as a user turn; entry
points can add renderers."""


def load_renderer(name: str, directory: Path, chat: ChatConfig | None = None) -> Renderer:
    """Loads the renderer that has this name in a recipe. Raises UserError if the name is unknown, or if `chat` asks for
    a chat template but the renderer does not use one."""
    kind: type[Renderer] = RENDERERS.resolve(name)
    if chat is None or chat == ChatConfig():
        return kind.load(directory)
    if name != "chat":
        raise UserError(f"renderer {name!r}: it does not use chat templates; remove `chat` or the renderer")
    return kind.load(directory, chat)
