from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.renderer import Renderer
from thinkling.puzzles import problemset
from thinkling.puzzles.examples import conversation
from thinkling.puzzles.pages import document
from thinkling.puzzles.pre_split import ISOLATE
from thinkling.puzzles.renderer import PageRenderer
from thinkling.tasks.problem import Problem

PUZZLES = ("sum", "mod", "sort", "reverse", "maximum", "calc")


Form = Literal["chat", "document"]


def renderer_of(form: Form, tokenizer: Tokenizer) -> Renderer:
    return Renderer(tokenizer, OURS) if form == "chat" else PageRenderer(tokenizer, OURS)


class ScriptedEngine:
    """Writes what a script says: `scripts[seed]` are the tokens of the model, whatever stands between them.

    Checks that continuations hold exactly what was written before, and keeps every call.
    """

    def __init__(self, scripts: dict[int, Sequence[int]], version: int = 3) -> None:
        self.scripts = {seed: [int(i) for i in ids] for seed, ids in scripts.items()}
        self.written: dict[int, int] = dict.fromkeys(scripts, 0)
        self.version = version
        self.calls: list[tuple[list[Request], Sampling]] = []

    def update_weights(self, version: int) -> None:
        self.version = version

    def release(self) -> None:
        """Nothing to free."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.calls.append((list(requests), sampling))
        return [self._answer(request, sampling.stop_ids) for request in requests]

    def _answer(self, request: Request, stop_ids: frozenset[int]) -> Completion:
        script, start = self.scripts[request.seed], self.written[request.seed]
        room = script[start : start + request.max_new_tokens]
        end = next((i + 1 for i, token in enumerate(room) if token in stop_ids), None)
        assert end is not None or len(room) == request.max_new_tokens, "the script ends before the sequence does"
        tokens = room[:end]
        self.written[request.seed] = start + len(tokens)
        return Completion(
            tokens, [-0.5] * len(tokens), [self.version] * len(tokens), "length" if end is None else "stop"
        )


@pytest.fixture(scope="session")
def problems() -> list[Problem]:
    """Four held-out problems of each family."""
    return problemset.heldout({name: {} for name in PUZZLES}, 4, seed=0)


@pytest.fixture(scope="session")
def calculation(problems: list[Problem]) -> Problem:
    """A problem of the tool family."""
    return next(problem for problem in problems if "calculator" in problem.tools)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Our byte-level BPE, trained on pages and conversations of puzzles."""
    texts = []
    for problem in problemset.generate({name: {} for name in PUZZLES}, "train", 60, seed=1):
        texts += [document(problem), " ".join(str(message["content"]) for message in conversation(problem))]
    return train_bpe(texts, 300, isolate=ISOLATE)
