"""An engine that knows the answers, and the stage with it as a process of its own (`python -m tests.stages.dpd.knowing
JOB`), for tests that start several under torchrun's environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from thinkling.data.artifact import Artifact, write_json
from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.renderer import Renderer
from thinkling.puzzles.examples import conversation
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.stages.base import StageContext
from thinkling.stages.dpd import stage
from thinkling.stages.dpd.config import DpdConfig
from thinkling.tasks.problem import Problem

SOURCE = PuzzlesSource(type="puzzles", families={"sort": {}, "calc": {}})


class KnowingEngine:
    """Answers problems as their worked conversations do. The student (hidden size 16) does so in its sample of an even
    seed alone; otherwise it says something else."""

    known: dict[tuple[int, ...], tuple[int, ...]] = {}  # noqa: RUF012
    wrong: tuple[int, ...] = ()
    calls = 0

    def __init__(self, loaded: LoadedModel, max_concurrent: int) -> None:
        self.right_always = loaded.decoder.config.hidden_size != 16
        self.version = 0

    def update_weights(self, version: int) -> None:
        self.version = version

    def release(self) -> None:
        """Nothing to free."""

    @classmethod
    def learn(cls, problems: Sequence[Problem], tokenizer: Tokenizer) -> None:
        cls.known = {}
        cls.calls = 0
        cls.wrong = tuple(int(i) for i in tokenizer.encode("<think>\nA\n</think>\n\nZ<|im_end|>", markup=True))
        for problem in problems:
            ids = tuple(int(i) for i in Renderer(tokenizer, OURS).encode(conversation(problem))[0])
            cls.known[ids[: cls.prompt_length(ids, tokenizer)]] = ids

    @staticmethod
    def prompt_length(ids: tuple[int, ...], tokenizer: Tokenizer) -> int:
        opening = tuple(int(i) for i in tokenizer.encode("<|im_start|>assistant\n", markup=True))
        starts = [i for i in range(len(ids)) if ids[i : i + len(opening)] == opening]
        return starts[0] + len(opening)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        KnowingEngine.calls += 1
        return [self._answer(request, sampling.stop_ids) for request in requests]

    def _answer(self, request: Request, stop_ids: frozenset[int]) -> Completion:
        prompt = next(p for p in self.known if request.prompt[: len(p)] == p)
        rest = self.known[prompt][len(request.prompt) :]
        if not self.right_always and request.seed % 2:
            rest = self.wrong
        end = next(i for i, token in enumerate(rest) if token in stop_ids)
        tokens = list(rest[: end + 1])
        return Completion(tokens, [-0.5] * len(tokens), [0] * len(tokens), "stop")


def context(directory: Path, inputs: Path) -> StageContext:
    """`inputs` holds the two models, by role."""
    artifacts = {role: Artifact(inputs / role, {"digest": role}) for role in ("model", "teacher")}
    return StageContext(name="dpd", directory=directory, inputs=artifacts, seed=7, sources={"puzzles": SOURCE})


def main(job: dict) -> None:
    stage.CHUNK = 5
    stage.make_engine = KnowingEngine  # pyright: ignore[reportAttributeAccessIssue]
    config, ctx = DpdConfig.model_validate(job["config"]), context(Path(job["directory"]), Path(job["inputs"]))
    KnowingEngine.learn(stage.problems(config, ctx), Tokenizer.load(Path(job["inputs"]) / "model" / "model"))
    stage.run(config, ctx)
    if os.environ["RANK"] == "0":
        write_json(Path(job["out"]), ctx.counts)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
