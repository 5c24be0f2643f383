"""What would fit: choices, cures and the shapes of the stages."""

import pytest

from thinkling.model.config import ModelConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.fitting import StageMemory, cures, gib, grid, sentence, stage_memory
from thinkling.stages.training.memory import GIB, Batch, Training, predict
from thinkling.train.config import PrecisionConfig

THREE_B = ModelConfig(
    vocab_size=166144, hidden_size=2560, intermediate_size=10496, num_hidden_layers=32, num_attention_heads=20,
    num_key_value_heads=4, head_dim=128, tie_word_embeddings=False,
)  # fmt: skip
BF16 = PrecisionConfig(compute="bfloat16", weights="bfloat16")
SFT = {"kind": "sft", "inputs": {"model": "m"}, "examples": {"source": "c"}, "epochs": 1, "optimizer": {"lr": 1e-5}}


def sft(**more: object) -> SftConfig:
    return SftConfig.model_validate(SFT | {"sequence_length": 4096, "batch_size": 16} | more)


def test_shapes_of_sft() -> None:
    assert sft().largest_batches(1) == [Batch(16, 4096)]
    assert sft(micro_batch_size=3).largest_batches(2) == [Batch(3, 4096, micro_batches=3)]


def test_shapes_of_pretrain() -> None:
    phases = [
        {"name": "a", "tokens": 8192, "learning_rate": 1e-3, "mixture": {"x": 1}},
        {"name": "b", "tokens": 8192, "learning_rate": 1e-3, "mixture": {"x": 1}},
        {"name": "c", "tokens": 8192, "learning_rate": 1e-3, "mixture": {"x": 1}, "sequence_length": 2048},
    ]
    config = PretrainConfig.model_validate(
        {
            "kind": "pretrain", "inputs": {"tokens": "t"}, "optimizer": {}, "sequence_length": 512,
            "batch_tokens": 4096, "phases": phases, "micro_batch_size": 4,
        }
    )  # fmt: skip
    assert config.largest_batches(1) == [Batch(4, 512, micro_batches=2), Batch(2, 2048)]


def test_shapes_that_depend_on_data_are_bounds() -> None:
    dpd = DpdConfig.model_validate(
        {
            "kind": "dpd", "inputs": {"model": "m"}, "preferences": [{"source": "p"}], "optimizer": {}, "steps": 4,
            "weights": {"kl_chosen": 0, "kl_rejected": 0}, "sequence_length": 1024, "batch_size": 8,
            "micro_batch_size": 2,
        }
    )  # fmt: skip
    assert dpd.largest_batches(1) == [Batch(4, 1024, micro_batches=4, rows_per_item=2)]
    assert dpd.largest_batches(1, sure=True) == [Batch(1, 1024, micro_batches=4)]
    rl = RlConfig.model_validate(
        {
            "kind": "rl", "inputs": {"model": "m"}, "problems": [{"source": "p", "n_problems": 4}], "optimizer": {},
            "steps": 4, "prompts_per_step": 16, "max_new_tokens": 20000,
        }
    )  # fmt: skip
    assert [batch.tokens for batch in rl.largest_batches(1)] == [20000]
    assert [batch.tokens for batch in rl.largest_batches(1, sure=True)] == [1]
    training = stage_memory(rl, THREE_B, 8, on_gpu=True).worst
    assert training.ranks == 1  # rl runs on one rank
    assert len(grid(training)) == 3  # micro_tokens has no effect below max_new_tokens
    more = rl.model_copy(update={"micro_tokens": 60000, "max_new_tokens": 16000})
    training = stage_memory(more, THREE_B, 1, on_gpu=True).worst
    assert [choice.changes[1] for choice in grid(training)][::3] == [
        f"micro_tokens: {n}" for n in (60000, 30000, 16000)
    ]
    assert [choice.training.batch.rows for choice in grid(training)] == [1] * 9


def test_choices_halve_the_micro_batch() -> None:
    training = stage_memory(sft(precision=BF16, compile=True), THREE_B, 1, on_gpu=True).worst
    assert [choice.changes for choice in grid(training)][::3] == [
        ("recompute: none", f"micro_batch_size: {n}") for n in (16, 8, 4, 2, 1)
    ]
    assert all(c.training.batch.rows * c.training.batch.micro_batches == 16 for c in grid(training))


def test_the_size_of_a_micro_batch_of_pairs_counts_pairs() -> None:
    batch = Batch.of(8, 4, 1024, rows_per_item=2)
    training = Training(THREE_B, batch)
    assert batch.rows == 8
    assert [choice.changes[1] for choice in grid(training)][::3] == [f"micro_batch_size: {n}" for n in (8, 4, 2, 1)]
    assert [choice.training.batch.rows for choice in grid(training)][::3] == [16, 8, 4, 2]


def test_cures_fit_and_start_with_the_least_change() -> None:
    memory = stage_memory(sft(precision=BF16, compile=True), THREE_B, 1, on_gpu=True)
    found = cures(memory, memory.worst, 70 * GIB)
    assert predict(memory.worst).peak > 200 * GIB
    assert found[0].changes == ("recompute: selective",)
    assert all(choice.peak <= 70 * GIB for choice in found)
    assert sentence(found).startswith("use recompute: selective (")


def test_cures_of_fp32_are_low_precision_adapters_and_processes() -> None:
    memory = stage_memory(sft(batch_size=1), THREE_B, 1, on_gpu=True)
    limits = {limit: [choice.changes for choice in cures(memory, memory.worst, limit * GIB)] for limit in (40, 20)}
    assert ("recompute: full", "precision: {compute: bfloat16, weights: bfloat16}") in limits[40]
    assert ("precision: {compute: bfloat16, weights: bfloat16}",) in [
        choice.changes for choice in cures(memory, memory.worst, 60 * GIB)
    ]
    assert any("lora: {rank: 16}" in changes for changes in limits[20])
    alone = StageMemory(memory.trainings, can_adapt=False)
    assert cures(alone, alone.worst, 20 * GIB)[0].changes[-1].endswith("processes")


def test_muon_is_replaced_before_weights_are_in_bf16() -> None:
    memory = stage_memory(sft(batch_size=1, optimizer={"name": "muon"}), THREE_B, 1, on_gpu=True)
    found = cures(memory, memory.worst, 40 * GIB)
    assert any("optimizer.name: adamw" in choice.changes for choice in found)
    assert not any("processes" in choice.text for choice in found)


def test_nothing_fits() -> None:
    memory = stage_memory(sft(), THREE_B, 1, on_gpu=True)
    assert cures(memory, memory.worst, GIB / 2) == []
    assert "smaller model" in sentence([])


@pytest.mark.parametrize(("size", "text"), [(50.26 * GIB, "50.3 GiB"), (GIB / 8, "0.12 GiB")])
def test_sizes(size: float, text: str) -> None:
    assert gib(size) == text
