"""The common interface of local and served models that act as judges or writers by replying to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from thinkling.generate.config import ChatConfig
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.loaded import LoadedModel

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reply:
    """One reply of the assistant."""

    text: str
    """The answer, without the reasoning."""
    reasoning: str = ""
    finish_reason: str = "stop"
    """`stop`, or `length` if the reply was cut off."""


class Replier(Protocol):
    """A local or served model that replies to messages."""

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """Returns one reply per conversation, in order, each of at most `limit` new tokens.

        `seeds`: one per conversation, each below 2**63.
        """
        ...


class LocalModel:
    """A Hugging Face model that runs in this process. A reply depends only on the messages and the seed, up to
    rounding."""

    def __init__(self, directory: Path, max_concurrent: int = 128, chat: ChatConfig | None = None) -> None:
        """Raises UserError if the directory lacks a model, a tokenizer or a chat template."""
        self.loaded = LoadedModel.load(directory, chat=chat)
        self.engine = make_engine(self.loaded, max_concurrent)

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """See `Replier.reply`."""
        renderer = self.loaded.renderer
        sampling = replace(sampling, stop_ids=sampling.stop_ids | renderer.stop_ids)
        requests = [
            Request(tuple(renderer.prompt(messages).tolist()), seed, limit)
            for messages, seed in zip(asked, seeds, strict=True)
        ]
        replies = []
        for completion in self.engine.generate(requests, sampling):
            found = renderer.read(completion)
            replies.append(Reply(found.answer or "", found.reasoning.strip(), completion.finish_reason))
        return replies
