"""Messages in, a reply out: the one protocol of local and served models, wherever a model plays a role in words."""

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
    """What an assistant said."""

    text: str
    """The answer, without its reasoning."""
    reasoning: str = ""
    finish_reason: str = "stop"
    """`stop`, or `length` where it was cut off."""


class Replier(Protocol):
    """A model that is asked in messages."""

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """One reply per conversation, in order, of at most `limit` new tokens. `seeds`: one each, below 2**63."""
        ...


class LocalModel:
    """A Hugging Face directory, decoded in this process. A reply depends on its messages and seed, up to rounding."""

    def __init__(self, directory: Path, max_concurrent: int = 128, chat: ChatConfig | None = None) -> None:
        """Raises UserError where the directory holds no model, tokenizer or chat template."""
        self.loaded = LoadedModel.load(directory, chat=chat)
        self.engine = make_engine(self.loaded, max_concurrent)

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """As `Replier`."""
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
