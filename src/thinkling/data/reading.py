"""What was read in a completion: plain data, made by a renderer and received by verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PartKind = Literal["reasoning", "call", "response", "answer"]


@dataclass(frozen=True)
class Call:
    """A tool call that could be read."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None
    """By which its result refers to it, in formats that write one."""


@dataclass(frozen=True)
class Part:
    """A piece of a completion as a person reads it. `response`: what a tool wrote."""

    kind: PartKind
    text: str


@dataclass(frozen=True)
class Reading:
    """A completion, read."""

    reasoning: str
    """Reasoning of all its turns, blank lines between them; empty without any."""
    answer: str | None
    """The last turn's answer, without surrounding white space, lines kept. None where nothing is readable: the
    reasoning never ended, a call has no response, or nothing follows."""
    calls: tuple[Call, ...] = ()
    """Readable tool calls of the whole completion, in order."""
    well_formed: bool = True
    """Whether there is an answer and every call could be read."""
    text: str = ""
    """The whole completion decoded, stop token and tool responses included, for audit."""
    parts: tuple[Part, ...] = ()
    """The completion in order, without tags and without empty parts."""

    @classmethod
    def of(cls, text: str) -> Reading:
        """A bare answer that no model's format surrounds, such as a reference."""
        answer = text.strip() or None
        return cls("", answer, well_formed=answer is not None, text=text)

    @property
    def line(self) -> str | None:
        """The answer with white space made single spaces; None without an answer."""
        return None if self.answer is None else " ".join(self.answer.split())
