"""Messages in, a reply out: the one protocol of local and served models, wherever a model plays a role in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from thinkling.data.chat_template import load_chat_template
from thinkling.data.conversations import parse_assistant, render_prompt
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.huggingface import load_pretrained

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reply:
    """What an assistant said."""

    text: str
    """The answer, without its thought."""
    reasoning: str = ""
    finish_reason: str = "stop"
    """`stop`, or `length` where it was cut off."""


class Replier(Protocol):
    """A model that is asked in messages."""

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """One reply to each conversation, in order, of at most `limit` new tokens. `seeds`: one each, below 2**63."""
        ...


class LocalModel:
    """A Hugging Face directory, decoded in this process. A reply depends on its messages and seed, up to rounding."""

    def __init__(self, directory: Path, batch_size: int = 128) -> None:
        """Raises UserError where the directory holds no model, tokenizer or chat template."""
        self.tokenizer, self.template = Tokenizer.load(directory), load_chat_template(directory)
        self.engine = NativeEngine(load_pretrained(directory).requires_grad_(False), batch_size)

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        """As `Replier`."""
        sampling = replace(sampling, stop_ids=sampling.stop_ids | self.tokenizer.stop_ids)
        requests = [
            Request(tuple(render_prompt(messages, self.tokenizer, template=self.template).tolist()), seed, limit)
            for messages, seed in zip(asked, seeds, strict=True)
        ]
        replies = []
        for completion in self.engine.generate(requests, sampling):
            text = self.tokenizer.decode(completion.tokens).removesuffix("\n")
            for end in ("<|im_end|>", "<|endoftext|>"):
                text = text.removesuffix(end)
            thought, answer, _ = parse_assistant(text)
            replies.append(Reply(answer.strip(), thought.strip(), completion.finish_reason))
        return replies
