"""The parsed form of a completion, as plain data. It is produced by a renderer and used by verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PartKind = Literal["reasoning", "call", "response", "answer"]


@dataclass(frozen=True)
class Call:
    """A successfully parsed tool call."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None
    """Id by which the result refers to the call, in formats with call ids."""


@dataclass(frozen=True)
class Part:
    """A part of a completion for display. The kind `response` is the output of a tool."""

    kind: PartKind
    text: str


@dataclass(frozen=True)
class Reading:
    """A parsed completion."""

    reasoning: str
    """Reasoning of all turns, separated by blank lines; empty if there is none."""
    answer: str | None
    """Answer of the last turn, stripped, with line breaks preserved. None if there is no answer, because the reasoning
    never ended, a call has no response, or no text follows."""
    calls: tuple[Call, ...] = ()
    """Successfully parsed tool calls of the whole completion, in order."""
    well_formed: bool = True
    """Whether an answer exists and every call could be parsed."""
    text: str = ""
    """The whole decoded completion for auditing, including the stop token and tool responses."""
    parts: tuple[Part, ...] = ()
    """The parts of the completion in order, without tags and without empty parts."""

    @classmethod
    def of(cls, text: str) -> Reading:
        """Returns the reading of an answer that is not in any model's format, such as a reference answer."""
        answer = text.strip() or None
        return cls("", answer, well_formed=answer is not None, text=text)

    @property
    def line(self) -> str | None:
        """The answer with white space collapsed to single spaces; None if there is no answer."""
        return None if self.answer is None else " ".join(self.answer.split())
