"""Questions and replies, stored phase by phase in files that are written once, atomically, and never changed.

A phase consists of questions of one kind about the open jobs of a chunk (`00002-03-critique-1.jsonl`). A resumed run
reads the files of completed phases and continues with the next phase. It therefore forms the same batches as an
uninterrupted run, and produces the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thinkling.data.atomic import replacing
from thinkling.data.seals import seal
from thinkling.errors import UserError
from thinkling.generate.backends import Reply


@dataclass(frozen=True)
class Question:
    """One question to one model."""

    key: str
    """Key of the job."""
    event: str
    """Kind of question: draft, checklist, critique, revision or chain."""
    round: int
    by: str
    """Configuration field of the backend, and the model behind the backend, for example `evaluators.0 input
    refiner`."""
    seed: int
    prompt: str


Answer = Callable[[Sequence[Question]], list[Reply]]


class Events:
    """The phases of one chunk, in order."""

    def __init__(self, directory: Path, chunk: int) -> None:
        self.directory, self.chunk, self.phase = directory, chunk, 0

    def is_answered(self, name: str) -> bool:
        """Whether the next phase, which must have this name, already has a file."""
        return self._path(name).exists()

    def ask(self, name: str, questions: Sequence[Question], answer: Answer) -> list[Reply]:
        """Returns the replies in order, read from the phase's file or obtained from `answer`. If there are no
        questions, no file is written.

        Raises UserError if the file contains different questions.
        """
        path = self._path(name)
        self.phase += 1
        if not questions:
            return []
        if path.exists():
            return _read(path, questions)
        replies = answer(questions)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for question, reply in zip(questions, replies, strict=True):
                stream.write(json.dumps(asdict(question) | {"reply": asdict(reply)}, ensure_ascii=False) + "\n")
        seal(path)
        return replies

    def _path(self, name: str) -> Path:
        return self.directory / f"{self.chunk:05d}-{self.phase:02d}-{name}.jsonl"


def _read(path: Path, questions: Sequence[Question]) -> list[Reply]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    replies = [Reply(**record.pop("reply")) for record in records]
    if records != [asdict(question) for question in questions]:
        raise UserError(
            f"{path}: the stored questions are not those of this run; remove {path.parent} to restart refining"
        )
    return replies
