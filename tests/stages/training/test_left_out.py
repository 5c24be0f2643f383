"""What is evaluated is not trained on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.own import OwnSource, problem
from thinkling.data.conversations import Conversation
from thinkling.errors import UserError
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.left_out import LeftOut
from thinkling.train.parallel import Parallel


def chat(number: int, problem_id: str | None = None, question: str = "hi") -> Conversation:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
    return Conversation(f"c{number}", turns, "chats", problem_id)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_conversation_is_on_one_side(seed: int, fraction: float) -> None:
    conversations = [chat(i) for i in range(400)]
    left_out = LeftOut({}, fraction, seed)
    trained = list(left_out.training(conversations, (validation := []).append))
    assert sorted(c.id for c in [*trained, *validation]) == sorted(c.id for c in conversations)
    assert abs(len(validation) - 400 * fraction) < 65  # six standard deviations
    assert trained == [c for c in conversations if c in trained], "the order stays"
    alone = LeftOut({}, fraction, seed)
    assert all(list(alone.training([c], [].append)) == [c] for c in trained[:20]), "it depends on no other conversation"


def test_answers_to_one_problem_stay_together() -> None:
    left_out = LeftOut({}, 0.5, 1)
    validation: list[Conversation] = []
    trained = {c.problem_id for c in left_out.training([chat(i, f"p{i % 7}") for i in range(70)], validation.append)}
    assert trained.isdisjoint({c.problem_id for c in validation})
    assert len(validation) % 10 == 0


def test_conversations_about_an_evaluated_problem_are_left_out() -> None:
    asked = problem(3)
    left_out = LeftOut({"own": [asked]}, 0.0)
    conversations = [chat(0, asked.id), chat(1, None, asked.question), chat(2, "other"), chat(3)]
    assert [c.id for c in left_out.training(conversations, [].append)] == ["c2", "c3"]
    assert left_out.counts() == {"evaluated": 2}
    assert left_out.without([problem(i) for i in range(5)]) == [problem(i) for i in (0, 1, 2, 4)]


def config(**fields: object) -> SftConfig:
    evaluation = {"task_sets": {"own": {"source": "own", "n_problems": 4}}, "max_new_tokens": 4}
    return SftConfig.model_validate(
        {
            "kind": "sft", "examples": {"source": "own"}, "epochs": 1, "sequence_length": 16, "batch_size": 1,
            "optimizer": {"lr": 1.0}, "evaluate_every": 1, "evaluation": evaluation,
        }
        | fields
    )  # fmt: skip


def test_the_problems_are_training_ones_and_the_same_for_every_stage_and_seed(tmp_path) -> None:
    sources = bound({"own": OwnSource(type="own", n=20)})
    found = []
    for name, seed in (("sft", 1), ("rl", 2)):
        ctx = StageContext(name, tmp_path, {}, seed, sources=sources)
        found.append(LeftOut.of(config(), ctx, Parallel()))
    assert found[0].ids == found[1].ids
    assert len(found[0].ids) == 4
    assert found[0].ids.isdisjoint({p.id for p in sources["own"].problems("heldout")})


def test_several_processes_cannot_sample(tmp_path) -> None:
    ctx = StageContext("sft", tmp_path, {}, 1, sources=bound({"own": OwnSource(type="own")}))
    two = Parallel(rank=0, world_size=2)
    with pytest.raises(
        UserError, match=r"stages\.sft\.evaluation: only a single process can sample answers to problems, but 2"
    ):
        LeftOut.of(config(), ctx, two)
    loss_alone = config(evaluation=None, validation_fraction=0.5)
    assert LeftOut.of(loss_alone, ctx, two, 0.5).validation_fraction == 0.5


def test_an_unknown_renderer_is_said_at_the_start(tmp_path) -> None:
    ctx = StageContext("sft", tmp_path, {}, 1, sources=bound({"own": OwnSource(type="own")}))
    sets = {"own": {"source": "own", "n_problems": 1, "renderer": "chatt"}}
    with pytest.raises(UserError, match="unknown renderer 'chatt'"):
        LeftOut.of(config(evaluation={"task_sets": sets, "max_new_tokens": 4}), ctx, Parallel())
