"""The prediction of a training step's memory, against the tensors that the code saves and as a function of settings."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkling.model.attention import DocumentLayout
from thinkling.model.config import LoraConfig, ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.lora import add_adapters
from thinkling.model.rotary import Rotary
from thinkling.stages.training.memory import GIB, OFFLOAD_PARAMETERS, Batch, Training, kept_per_layer, predict
from thinkling.train import offload
from thinkling.train.blocks import prepare_layers
from thinkling.train.config import PrecisionConfig, Recompute

BF16 = PrecisionConfig(compute="bfloat16", weights="bfloat16")
MODES: tuple[Recompute, ...] = get_args(Recompute)


def shape(**more: Any) -> ModelConfig:
    fields = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    return ModelConfig.model_validate(fields | more)


THREE_B = ModelConfig(
    vocab_size=166144, hidden_size=2560, intermediate_size=10496, num_hidden_layers=32, num_attention_heads=20,
    num_key_value_heads=4, head_dim=128, tie_word_embeddings=False,
)  # fmt: skip
ONE_B = ModelConfig(
    vocab_size=65536, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=16,
    num_key_value_heads=4, head_dim=128, tie_word_embeddings=False,
)  # fmt: skip


def saved_by_a_layer(training: Training) -> float:
    """Bytes that one more layer saves for the backward pass, by storage, without parameters and the rotary tables."""

    def saved(layers: int) -> int:
        model = Decoder(training.model.model_copy(update={"num_hidden_layers": layers}))
        model.init_weights(torch.Generator().manual_seed(0))
        if training.lora is not None:
            add_adapters(model, training.lora, 0)
        prepare_layers(model, training.recompute)
        batch = training.batch
        layout = DocumentLayout.from_lengths([[batch.length]] * batch.rows, batch.length)
        rotary = Rotary.at(layout.positions_BT, model.config)
        found: dict[int, int] = {}

        def keep(x: torch.Tensor) -> torch.Tensor:
            found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        x_ND = torch.randn(batch.tokens, training.model.hidden_size, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            for layer in model.model.layers:
                x_ND = layer(x_ND, rotary, layout)
        known = [*model.parameters(), rotary.cos_BTC, rotary.sin_BTC, rotary.turns_NC]
        for x in known:
            found.pop(x.untyped_storage().data_ptr(), None)
        return sum(found.values())

    return saved(3) - saved(2)


@pytest.mark.parametrize("batch", [Batch(2, 256), Batch(3, 100), Batch(1, 640)])
@pytest.mark.parametrize(
    ("model", "lora"),
    [
        (shape(), None),
        (shape(architecture="qwen3"), None),
        (shape(), LoraConfig(rank=4)),
        (shape(), LoraConfig(rank=4, targets=["q_proj", "v_proj"])),
    ],
    ids=["llama", "head norms", "lora", "lora on two layers"],
)
def test_a_layer_keeps_what_the_code_saves(model: ModelConfig, lora: LoraConfig | None, batch: Batch) -> None:
    training = Training(model, batch, lora=lora, on_gpu=False)
    assert kept_per_layer(training) == pytest.approx(saved_by_a_layer(training), rel=0.02)


def test_recomputed_layers_keep_their_inputs() -> None:
    training = Training(shape(), Batch(2, 128), recompute="full", on_gpu=False)
    assert kept_per_layer(training) == 2 * 128 * 64 * 4


@pytest.mark.parametrize(
    ("model", "batch", "weights", "recompute", "gib"),
    [
        (THREE_B, Batch(4, 4096), "bfloat16", "none", 74.69),
        (THREE_B, Batch(1, 16384), "bfloat16", "none", 74.69),
        (THREE_B, Batch(4, 4096, micro_batches=8), "bfloat16", "none", 89.35),
        (THREE_B, Batch(1, 65536), "bfloat16", "selective", 51.92),
        (ONE_B, Batch(8, 4096), "float32", "none", 57.18),
    ],
)
def test_peaks_measured_on_a_gpu(
    model: ModelConfig, batch: Batch, weights: Any, recompute: Recompute, gib: float
) -> None:
    """docs/LAB.md, Training on one GPU: compiled layers, `torch.cuda.max_memory_allocated`."""
    precision = PrecisionConfig(compute="bfloat16", weights=weights)
    found = predict(Training(model, batch, precision, recompute=recompute, compiled=True))
    assert found.peak / GIB == pytest.approx(gib, rel=0.03)


batches = st.builds(Batch, st.integers(1, 8), st.sampled_from([64, 512, 4096, 65536]), st.sampled_from([1, 4]))
trainings = st.builds(
    Training,
    st.sampled_from([shape(), shape(architecture="qwen3", tie_word_embeddings=False), ONE_B]),
    batches,
    st.sampled_from([PrecisionConfig(), PrecisionConfig(compute="bfloat16"), BF16]),
    recompute=st.sampled_from(MODES),
    compiled=st.booleans(),
    lora=st.sampled_from([None, LoraConfig(rank=8)]),
    ranks=st.sampled_from([1, 2, 8]),
    on_gpu=st.booleans(),
)


@given(trainings)
def test_memory_grows_with_rows(training: Training) -> None:
    more = replace(training, batch=replace(training.batch, rows=2 * training.batch.rows))
    assert predict(more).peak >= predict(training).peak
    assert all(size > 0 for size in predict(training).parts.values())


@given(trainings)
def test_memory_shrinks_with_recomputation(training: Training) -> None:
    """Up to the input of one layer, which is kept in addition to the values that are computed again from it."""
    none, selective, full = (predict(replace(training, recompute=mode)).peak for mode in MODES)
    layer_input = training.batch.tokens * training.model.hidden_size * training.compute_bytes
    assert none + layer_input >= selective >= full
    many = replace(training, batch=Batch(8, 4096), recompute="none")
    assert predict(many).peak > predict(replace(many, recompute="full")).peak


@given(trainings.filter(lambda t: t.ranks > 1))
def test_state_shrinks_with_ranks(training: Training) -> None:
    few, many = predict(training).parts, predict(replace(training, ranks=2 * training.ranks)).parts
    assert many["weights"] == few["weights"] / 2
    assert many["optimizer"] == few["optimizer"] / 2


@given(trainings)
def test_more_ranks_never_need_more(training: Training) -> None:
    assert predict(replace(training, ranks=16)).peak <= predict(replace(training, ranks=2)).peak


def test_bf16_weights_halve_the_state() -> None:
    training = Training(THREE_B, Batch(1, 4096), PrecisionConfig(compute="bfloat16"))
    whole, half = predict(training).parts, predict(replace(training, precision=BF16)).parts
    assert half["weights"] == whole["weights"] / 2
    assert half["optimizer"] == whole["optimizer"] / 2
    assert "copies" in whole
    assert "copies" not in half


def test_adapters_have_no_state_of_frozen_weights() -> None:
    training = Training(THREE_B, Batch(1, 4096), BF16)
    adapted = replace(training, lora=LoraConfig(rank=16))
    assert adapted.trained == LoraConfig(rank=16).parameter_count(THREE_B)
    assert predict(adapted).parts["optimizer"] == 8 * adapted.trained
    assert predict(adapted).peak < predict(training).peak


@pytest.mark.parametrize("precision", [PrecisionConfig(compute="bfloat16"), BF16])
def test_offloaded_state_leaves_the_gpu_except_for_its_buffers(precision: PrecisionConfig) -> None:
    here = Training(ONE_B, Batch(1, 4096), precision, compiled=True)
    state = ONE_B.parameter_count() * 2 * here.weight_bytes
    buffers = 3 * 2**24 * 2 * here.weight_bytes
    assert OFFLOAD_PARAMETERS == offload.PART * offload.BUFFERS
    assert predict(here).parts["optimizer"] == state
    assert predict(replace(here, offload=True)).parts["optimizer"] == buffers
