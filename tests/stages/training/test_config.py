"""What the stages that train share in a recipe."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.config import ScheduleConfig, TrainingConfig
from thinkling.train.config import PrecisionConfig

ALL = (PretrainConfig, SftConfig, DpdConfig, RlConfig)


def test_all_four_share_their_fields() -> None:
    for kind in ALL:
        assert issubclass(kind, TrainingConfig)
        assert "state?" in kind.roles
        assert kind.uses_torch
    assert [kind for kind in ALL if issubclass(kind, ScheduleConfig)] == [SftConfig, DpdConfig, RlConfig]
    defaults = [kind.model_fields["checkpoint_every"].default for kind in ALL]
    assert defaults == [500, 200, 100, 10]


def sft(**fields: Any) -> SftConfig:
    return SftConfig.model_validate(
        {
            "kind": "sft",
            "inputs": {"model": "a", "conversations": "c"},
            "epochs": 1,
            "sequence_length": 64,
            "batch_size": 4,
            "optimizer": {"lr": 1.0},
        }
        | fields
    )


def test_products() -> None:
    assert sft().products == {"model"}
    assert sft(keep_state=True).products == {"model", "state"}


def test_a_state_is_that_of_the_model() -> None:
    sft(inputs={"model": "a", "conversations": "c", "state": "a"})
    with pytest.raises(ValidationError, match=r"inputs\.state: 'b' is not the stage of inputs\.model, 'a'"):
        sft(inputs={"model": "a", "conversations": "c", "state": "b"})


def test_precision_is_fp32_unless_it_is_said() -> None:
    assert {kind.model_fields["precision"].default for kind in ALL} == {PrecisionConfig()}
    assert sft().precision.model_dump() == {"compute": "float32", "weights": "float32", "float8": None}
    sft(precision={"compute": "bfloat16"}, optimizer={"name": "muon"})
    with pytest.raises(ValidationError, match=r"precision\.compute"):
        sft(precision={"compute": "float16"})


def test_bf16_weights_need_adamw() -> None:
    sft(precision={"weights": "bfloat16"})
    with pytest.raises(ValidationError, match=r"precision\.weights: muon requires .* to float32, or .* to adamw"):
        sft(precision={"weights": "bfloat16"}, optimizer={"name": "muon"})


def test_decay_shape_bends_the_decay_alone() -> None:
    line, wave = sft(decay_shape="linear").schedule(20), sft(decay_shape="cosine").schedule(20)
    assert [line(i) for i in range(10)] == [wave(i) for i in range(10)] == [1.0] * 10
    assert line(11) < wave(11)
    assert line(18) > wave(18)
    with pytest.raises(ValidationError, match="decay_shape"):
        sft(decay_shape="steps")


def test_updates_per_step_stretch_the_schedule() -> None:
    rates = sft(warmup_steps=2).schedule(8, updates_per_step=3)
    assert rates.total_steps == 24
    assert rates(5) < 1.0 == rates(6)


TASK_SETS = {"task_sets": {"maths": {"source": "p", "n_problems": 5}}, "max_new_tokens": 9}


def test_an_evaluation_is_a_need_and_its_source_judges() -> None:
    given = sft(evaluate_every=3, evaluation=TASK_SETS, validation_fraction=0.1, keep_best=True)
    assert [need[:2] for need in given.needs()] == [("evaluation.task_sets.maths.source", "p")]
    assert given.judges() == ["p"]
    assert given.evaluation is not None
    assert (given.evaluation.k, given.evaluate_at_start) == (1, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"evaluation": TASK_SETS}, "evaluation: has no effect without evaluate_every"),
        ({"validation_fraction": 0.1}, "validation_fraction: has no effect without evaluate_every"),
        ({"keep_best": True}, "keep_best: has no effect without evaluate_every"),
        ({"evaluate_every": 5}, "evaluate_every: there is nothing to evaluate; set evaluation or validation_fract"),
        ({"evaluate_every": 5, "evaluation": {"task_sets": {}, "max_new_tokens": 9}}, "at least 1 item"),
        (
            {"evaluate_every": 5, "validation_fraction": 0.1, "keep_best": True, "keep_state": True},
            "keep_state: the training state is from the last step",
        ),
        (
            {"evaluate_every": 5, "evaluation": {**TASK_SETS, "task_sets": {"loss": {"source": "p", "n_problems": 1}}}},
            "'loss' is reserved for the validation loss",
        ),
        (
            {"evaluate_every": 5, "evaluation": {**TASK_SETS, "task_sets": {"../x": {"source": "p", "n_problems": 1}}}},
            "'../x' is not a valid name",
        ),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sft(**fields)


def test_a_stage_of_one_process_shares_no_model() -> None:
    fields = {
        "kind": "rl", "inputs": {"model": "a"}, "problems": [{"source": "p", "n_problems": 4}], "steps": 1,
        "prompts_per_step": 1, "samples_per_prompt": 2, "max_new_tokens": 8, "optimizer": {"lr": 1.0},
    }  # fmt: skip
    assert RlConfig.model_validate(fields | {"async_checkpoints": True}).async_checkpoints
    with pytest.raises(ValidationError, match="parallel: has no effect, because rl runs in one process; remove it"):
        RlConfig.model_validate(fields | {"parallel": {"replicas": 2}})
    assert sft(parallel={"replicas": 2}).parallel.replicas == 2
