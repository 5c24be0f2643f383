"""A served model as annotator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from thinkling.errors import UserError
from thinkling.generate.backends import Messages, Reply
from thinkling.generate.client import ServedModel
from thinkling.generate.engine import Sampling
from thinkling.quality.annotator import Example
from thinkling.quality.config import GradingConfig
from thinkling.quality.served_annotator import ServedAnnotator, parse_grades, prompt_for
from thinkling.quality.tags import TAGS
from thinkling.stages.base import StageContext
from thinkling.stages.curate import write_graded

EXAMPLES = [Example(f"text {i}", "unknown") for i in range(6)]


class Model:
    """Answers as told, and remembers how it was asked."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.sampling: Sampling | None = None

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        self.sampling = sampling
        numbers = [messages[0]["content"].rpartition("\n</text>")[0][-1] for messages in asked]
        return [Reply(self.answer.replace("N", number)) for number in numbers]


@pytest.mark.parametrize(
    ("answer", "grades"),
    [
        ('{"prose": 3, "length": 9}', {"prose": 3, "length": 9}),
        ('{"prose": 1} no: {"prose": 3}', {"prose": 3}),
        ('{"prose": 10, "length": -1, "depth": "4", "beauty": 3, "density": true, "variety": 2.5}', {}),
        ("no object", {}),
        ("{broken", {}),
        ("{'prose': 3}", {}),
    ],
)
def test_answers_are_read_strictly(answer: str, grades: dict[str, int]) -> None:
    assert parse_grades(answer) == grades


def test_the_prompt_states_every_tag_and_nothing_of_the_source() -> None:
    prompt = prompt_for("some text")
    assert all(f"- {tag.name}: {tag.definition}" in prompt for tag in TAGS)
    assert prompt.endswith("<text>\nsome text\n</text>")


def test_each_example_gets_its_own_answer() -> None:
    model = Model(json.dumps({"prose": "N"}).replace('"N"', "N"))
    assert ServedAnnotator(model).annotate(EXAMPLES) == [{"prose": i} for i in range(6)]
    assert model.sampling is not None
    assert model.sampling.temperature == 0


def test_a_model_that_never_answers_in_grades_is_an_error() -> None:
    with pytest.raises(UserError, match=r"grading\.annotator: no answer"):
        ServedAnnotator(Model("I cannot")).annotate(EXAMPLES)


def test_the_recipe_names_the_model_and_where_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = {"url": "http://127.0.0.1:1/v1", "model": "m", "key_variable": "TEST_ANNOTATOR_KEY", "timeout_s": 3}
    config = GradingConfig.model_validate(
        {"seeds": {"a": 1}, "hq_tokens": 1, "bytes_per_token": {"a": 1}, "annotator": annotator}
    )
    ctx = StageContext("curate", tmp_path, {}, 0)
    missing = r"grading\.annotator\.key_variable: the environment variable TEST_ANNOTATOR_KEY is not set; set it"
    with pytest.raises(UserError, match=missing):
        write_graded._annotator(config, ctx)
    monkeypatch.setenv("TEST_ANNOTATOR_KEY", "secret")
    made = write_graded._annotator(config, ctx)
    assert isinstance(made, ServedAnnotator)
    assert isinstance(made._model, ServedModel)
    assert (made._model.config.model, made._model.config.timeout_s) == ("m", 3)
    path = made._model.answers.path
    assert path is not None
    assert path.parent == tmp_path / "answers"
