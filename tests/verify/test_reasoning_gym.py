"""Problems of reasoning-gym: its scorers judge, and those that would run a model's answer are refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.pipeline.recipe import read_source
from thinkling.sources.reasoning_gym import ReasoningGymSource
from thinkling.tasks.problem import Problem
from thinkling.verify.reasoning_gym import dataset, unsafe_scorer, verify
from thinkling.verify.verdict import Outcome


def source(**fields: Any) -> ReasoningGymSource:
    found = read_source("gym", {"type": "reasoning_gym", "datasets": {"chain_sum": {}}, **fields})
    assert isinstance(found, ReasoningGymSource)
    return found.bind("gym", {})


@pytest.fixture(scope="module")
def gym() -> None:
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed; pip install thinkling[tasks]")


@pytest.mark.usefixtures("gym")
def test_problems_are_generated_split_and_judged() -> None:
    mine = source(datasets={"chain_sum": {"min_terms": 2, "max_terms": 3}, "leg_counting": {}}, size=60)
    train, heldout = mine.problems("train", 40, seed=1), mine.problems("heldout")
    assert len({problem.id for problem in train}) == 40
    assert {problem.family for problem in train} == {"chain_sum", "leg_counting"}
    assert 2 < len(heldout) < 30
    assert not {p.question for p in train} & {p.question for p in heldout}
    assert [p.id for p in source(datasets=dict(mine.datasets), size=60).problems("train", 40, seed=1)] == [
        p.id for p in train
    ]
    for problem in train[:10]:
        answer = problem.answer
        right = [
            f"So <answer>{answer}</answer>",
            f"<answer> {answer}\n</answer>",
            f"It is \\boxed{{{answer}}}.",
            answer,
        ]
        wrong = [f"<answer>{answer}1</answer>", f"<answer>{answer}</answer> <answer>7777</answer>", "<answer></answer>"]
        for replies, outcome in ((right, Outcome.RIGHT), (wrong, Outcome.WRONG)):
            assert [verify(problem, Reading.of(reply)).outcome for reply in replies] == [outcome] * len(replies)
    assert "between <answer> and </answer>" in train[0].question
    assert "<answer>" not in train[0].bare
    assert mine.summary() == f"{120 - len(heldout)} training problems, {len(heldout)} held out"


@pytest.mark.usefixtures("gym")
@pytest.mark.parametrize("name", ["n_queens", "string_insertion", "countdown", "binary_matrix", "composite"])
def test_a_scorer_that_runs_answers_as_code_is_refused(name: str) -> None:
    """reasoning-gym's scorers of these call eval or sympy's parser on the answer, outside any sandbox."""
    with pytest.raises(UserError, match=f"gym.datasets: data set '{name}' .* run model output as code"):
        source(datasets={name: {}}).problems("train", 1)


@pytest.mark.usefixtures("gym")
def test_an_answer_that_makes_a_scorer_fail_is_wrong() -> None:
    problem = source(datasets={"prime_factorization": {}}, size=20).problems("train")[0]
    assert verify(problem, Reading.of("<answer>two times three</answer>")).outcome is Outcome.WRONG


@pytest.mark.usefixtures("gym")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"datasets": {"chain_summ": {}}}, "no data set 'chain_summ'; available data sets: chain_sum"),
        ({"datasets": {"chain_sum": {"terms": 3}}}, "data set 'chain_sum' .*unexpected keyword argument 'terms'"),
        ({"datasets": {"chain_sum": {"min_terms": 9, "max_terms": 1}}}, "max_terms must be >= min_terms"),
        ({"size": 5}, "problems in the split .*; raise size"),
    ],
)
def test_mistakes_are_one_line(fields: dict[str, Any], message: str) -> None:
    mine = source(**fields)
    with pytest.raises(UserError, match=message) as caught:
        mine.check("problems", "train", 900)
    assert "\n" not in str(caught.value)


class Safe:
    def score_answer(self, answer: str, entry: dict) -> float:
        return float(self.read(answer) == entry["answer"])

    def read(self, answer: str) -> str:
        return answer.strip()


class Evaluating(Safe):
    def score_answer(self, answer: str, entry: dict) -> float:
        return float(eval(answer) == 1)


class Composite(Safe):
    others: Any = None

    def score_answer(self, answer: str, entry: dict) -> float:
        return self.others[entry["name"]].score_answer(answer, entry) + super().score_answer(answer, entry)


def test_a_call_that_runs_text_is_found_in_a_scorer() -> None:
    assert unsafe_scorer(Composite) == "score_answer"
    assert unsafe_scorer(Safe) is None
    assert unsafe_scorer(Evaluating) == "eval"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reasoning_gym", "reasoning_gym.factory"):
        monkeypatch.setitem(sys.modules, name, None)
    dataset.cache_clear()
    with pytest.raises(
        UserError, match=r"gym\.datasets: reasoning-gym is not installed; run pip install 'thinkling\[tasks\]'"
    ):
        source().summary()


def test_another_problem_is_unverifiable() -> None:
    assert verify(Problem("x", "f", "?", "1", "", "reasoning-gym"), Reading.of("1")).outcome is Outcome.UNVERIFIABLE
