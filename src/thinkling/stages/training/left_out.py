"""What a stage leaves out of training because it is evaluated on it: problems, and a fraction of the conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from thinkling.data.chat_template import Message
from thinkling.data.conversations import Conversation, read_conversations, write_conversations
from thinkling.data.packing import PackedBatch, pack_conversations
from thinkling.errors import UserError
from thinkling.generate.renderer import RENDERERS, Renderer
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.training.config import EvaluatedConfig
from thinkling.tasks.problem import Problem
from thinkling.train.parallel import Parallel

FILE = "validation.parquet"
"""The conversations whose loss is measured."""


@dataclass
class LeftOut:
    """What is evaluated, and so not trained on."""

    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    """Task set → its problems."""
    validation_fraction: float = 0.0
    seed: int = 0
    validation: list[Conversation] = field(default_factory=list)
    """Conversations whose loss is measured; complete once `training` is exhausted."""
    n_conversations: int = 0
    """Conversations left out because they answer an evaluated problem; likewise."""

    @classmethod
    def of(cls, config: EvaluatedConfig, ctx: StageContext, parallel: Parallel, validation: float = 0.0) -> LeftOut:
        """What a stage leaves out; nothing where it evaluates nothing.

        The seed of the problems is the same in all stages and runs, so that their curves can be compared, and no stage
        trains on what another one is evaluated on.

        Raises UserError where problems are to be sampled by several processes, or a renderer is not known.
        """
        if config.evaluation is None:
            return cls({}, validation, ctx.seed)
        if parallel.world_size > 1:
            raise UserError(
                f"stages.{ctx.name}.evaluation: problems are sampled in one process only, and there are "
                f"{parallel.world_size}, which share the model; start it without torchrun, or remove evaluation and "
                "score the model in an evaluate stage"
            )
        for wanted in config.evaluation.task_sets.values():
            RENDERERS.resolve(wanted.renderer)
        problems = {
            name: ctx.sources[wanted.source].problems(
                "train", wanted.n_problems, derive(0, "evaluation", wanted.source), wanted.families
            )
            for name, wanted in config.evaluation.task_sets.items()
        }
        return cls(problems, validation, ctx.seed)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Ids of the evaluated problems."""
        return frozenset(problem.id for problems in self.problems.values() for problem in problems)

    @cached_property
    def _questions(self) -> frozenset[str]:
        return frozenset(problem.question for problems in self.problems.values() for problem in problems)

    def without(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems that are not evaluated, in order."""
        return [problem for problem in problems if problem.id not in self.ids]

    def asks(self, messages: Sequence[Message]) -> bool:
        """Whether a user's message is, word for word, the question of an evaluated problem."""
        return bool(self.ids) and any(m["role"] == "user" and m["content"] in self._questions for m in messages)

    def training(self, conversations: Iterable[Conversation]) -> Iterator[Conversation]:
        """The conversations to train on, in order. The others are counted, and those for validation kept."""
        for conversation in conversations:
            if conversation.problem_id in self.ids or self.asks(conversation.messages):
                self.n_conversations += 1
            elif self._validates(conversation):
                self.validation.append(conversation)
            else:
                yield conversation

    def _validates(self, conversation: Conversation) -> bool:
        """By hash: it depends on no other conversation, and all that answer one problem are on the same side."""
        if not self.validation_fraction:
            return False
        drawn = derive(self.seed, "validation", conversation.problem_id or conversation.id)
        return drawn < self.validation_fraction * 2**63

    def write(self, directory: Path) -> None:
        """Writes the conversations for validation, if there are any, as a file to look at."""
        if self.validation:
            write_conversations(directory / FILE, self.validation)

    def read(self, directory: Path, n_conversations: int) -> None:
        """Takes over what another process, or a run that was killed, left out of training and wrote."""
        path = directory / FILE
        self.validation = list(read_conversations(path)) if path.exists() else []
        self.n_conversations = n_conversations

    def counts(self) -> dict[str, int]:
        """Conversations that were left out, by reason; none where nothing is evaluated."""
        validated = {"validation": len(self.validation)} if self.validation_fraction else {}
        return validated | ({"evaluated": self.n_conversations} if self.problems else {})

    def batches(self, renderer: Renderer, sequence_length: int, rows: int) -> list[PackedBatch]:
        """The conversations for validation, packed, `rows` rows each; those longer than a row are left out.

        Raises UserError where there is none.
        """
        if not self.validation_fraction:
            return []
        encoded = [renderer.encode(c.messages, list(c.tools) or None) for c in self.validation]
        fitting = [item for item in encoded if len(item[0]) <= sequence_length]
        if not any(mask[1:].any() for _, mask in fitting):
            raise UserError(
                f"validation_fraction {self.validation_fraction}: none of the {len(encoded)} conversations drawn for "
                "validation can be measured; raise it, or raise sequence_length"
            )
        packed = pack_conversations(fitting, sequence_length, renderer.tokenizer.pad_id)
        n = len(packed.lengths)
        return [packed.rows(i, min(i + rows, n)) for i in range(0, n, rows)]
