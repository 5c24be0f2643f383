"""Problems as conversations in the Hugging Face chat format, used for SFT and for scoring thinking models."""

from __future__ import annotations

import random
from typing import Any

from thinkling.generate.tools import resolve
from thinkling.puzzles.noise import add_noise
from thinkling.seeds import derive
from thinkling.tasks.problem import Problem

Message = dict[str, Any]


def prompt(problem: Problem) -> list[Message]:
    """Just the user turn."""
    return [{"role": "user", "content": problem.question}]


def conversation(problem: Problem, with_reasoning: bool = True) -> list[Message]:
    """Question and answer. Reasoning goes into the assistant's `reasoning_content`; in a tool family the assistant
    thinks, calls its tool, reads the response and answers. Without reasoning the answer follows immediately, with no
    tool call."""
    answer: Message = {"role": "assistant", "content": problem.answer}
    if not with_reasoning:
        return [*prompt(problem), answer]
    if problem.call is None:
        return [*prompt(problem), {**answer, "reasoning_content": problem.reasoning}]
    tool, arguments = problem.tools[0], dict(problem.call)
    call = {"type": "function", "function": {"name": tool, "arguments": arguments}}
    return [
        *prompt(problem),
        {"role": "assistant", "content": "", "reasoning_content": problem.reasoning, "tool_calls": [call]},
        {"role": "tool", "content": resolve(tool).session().run(arguments)},
        answer,
    ]


def example(
    problem: Problem, seed: int, answer_only_fraction: float, noise_fraction: float, noise_strength: float = 0.15
) -> list[Message]:
    """A training conversation: without reasoning with probability `answer_only_fraction`, otherwise noisy with
    probability `noise_fraction`, in `noise_strength` of its reasoning's symbols. Depends on seed and problem only."""
    rng = random.Random(derive(seed, "example", problem.id))
    if rng.random() < answer_only_fraction:
        return conversation(problem, with_reasoning=False)
    if rng.random() < noise_fraction:
        return conversation(add_noise(problem, rng, noise_strength))
    return conversation(problem)
