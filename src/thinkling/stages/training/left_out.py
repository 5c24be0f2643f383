"""Problems and conversations that a stage excludes from training because its model is evaluated on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from thinkling.data.chat_template import Message
from thinkling.data.conversations import Conversation
from thinkling.errors import UserError
from thinkling.generate.renderer import RENDERERS
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.training.config import EvaluatedConfig
from thinkling.tasks.problem import Problem
from thinkling.train.parallel import Parallel


@dataclass
class LeftOut:
    """Items that are used for evaluation and therefore not for training."""

    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    """Name of each task set → its problems."""
    validation_fraction: float = 0.0
    seed: int = 0
    n_validation: int = 0
    """Number of conversations on which the validation loss is measured."""
    n_unmeasured: int = 0
    """Number of conversations that were drawn for validation but cannot be measured, for example because they are too
    long."""
    n_conversations: int = 0
    """Number of conversations that are excluded because they answer an evaluated problem. The number is complete once
    the iterator returned by `training` is exhausted."""

    @classmethod
    def of(cls, config: EvaluatedConfig, ctx: StageContext, parallel: Parallel, validation: float = 0.0) -> LeftOut:
        """Selects the items that a stage excludes from training. If the stage has no evaluation and no validation
        split, nothing is excluded.

        The problems are drawn with the same seed in all stages and runs. The scores that different stages measure
        during training are therefore comparable, and stages that evaluate on the same task sets exclude the same
        problems from training.

        Raises UserError if several processes would sample problems, or if a renderer is unknown.
        """
        if config.evaluation is None:
            return cls({}, validation, ctx.seed)
        if parallel.world_size > 1:
            raise UserError(
                f"stages.{ctx.name}.evaluation: only a single process can sample answers to problems, but "
                f"{parallel.world_size} processes share the model; run without torchrun, or remove evaluation and "
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
        """Returns the problems that are not used for evaluation, in order."""
        return [problem for problem in problems if problem.id not in self.ids]

    def asks(self, messages: Sequence[Message]) -> bool:
        """Whether a user message is identical to the question of an evaluated problem."""
        return bool(self.ids) and any(m["role"] == "user" and m["content"] in self._questions for m in messages)

    def training(
        self, conversations: Iterable[Conversation], validate: Callable[[Conversation], None]
    ) -> Iterator[Conversation]:
        """Yields the conversations to train on, in order. Conversations drawn for validation are passed to `validate`.
        Conversations that answer an evaluated problem are counted."""
        for conversation in conversations:
            if self.answers(conversation):
                self.n_conversations += 1
            elif self.validates(conversation):
                validate(conversation)
            else:
                yield conversation

    def answers(self, conversation: Conversation) -> bool:
        """Whether the conversation answers an evaluated problem."""
        return conversation.problem_id in self.ids or self.asks(conversation.messages)

    def validates(self, conversation: Conversation) -> bool:
        """Whether the conversation is drawn for validation. The draw is based on a hash: it does not depend on other
        conversations, and it has the same result for all conversations that answer the same problem."""
        if not self.validation_fraction:
            return False
        drawn = derive(self.seed, "validation", conversation.problem_id or conversation.id)
        return drawn < self.validation_fraction * 2**63

    def counts(self) -> dict[str, int]:
        """Returns the number of excluded conversations by reason, or an empty mapping if nothing is evaluated."""
        validated = {"validation": self.n_validation, "validation_unmeasured": self.n_unmeasured}
        return (validated if self.validation_fraction else {}) | (
            {"evaluated": self.n_conversations} if self.problems else {}
        )
