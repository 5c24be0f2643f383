"""The parsed form of a completion: plain data, produced by a renderer and consumed by verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PartKind = Literal["reasoning", "call", "response", "answer"]


@dataclass(frozen=True)
class Call:
    """A tool call that could be parsed."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None
    """Id by which its result refers to it, in formats that have one."""


@dataclass(frozen=True)
class Part:
    """A part of a completion as a person reads it. `response`: a tool's output."""

    kind: PartKind
    text: str


@dataclass(frozen=True)
class Reading:
    """A parsed completion."""

    reasoning: str
    """Reasoning of all its turns, separated by blank lines; empty if there is none."""
    answer: str | None
    """The last turn's answer, stripped, with its line breaks. None if there is no readable answer: the reasoning never
    ended, a call has no response, or nothing follows."""
    calls: tuple[Call, ...] = ()
    """Parsable tool calls of the whole completion, in order."""
    well_formed: bool = True
    """True if an answer exists and every call could be parsed."""
    text: str = ""
    """The whole decoded completion, including stop token and tool responses, for auditing."""
    parts: tuple[Part, ...] = ()
    """The completion in order, without tags and without empty parts."""

    @classmethod
    def of(cls, text: str) -> Reading:
        """A bare answer outside any model's format, such as a reference."""
        answer = text.strip() or None
        return cls("", answer, well_formed=answer is not None, text=text)

    @property
    def line(self) -> str | None:
        """The answer with white space collapsed to single spaces; None if there is no answer."""
        return None if self.answer is None else " ".join(self.answer.split())
