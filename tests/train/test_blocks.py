"""Layers that are recomputed in the backward pass, or compiled."""

# pyright: reportPrivateUsage=false

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.train import blocks
from thinkling.train.blocks import prepare_layers
from thinkling.train.config import OptimizerConfig, PrecisionConfig, Recompute
from thinkling.train.trainer import Objective, Trainer

Make = Callable[..., Any]
LAYOUT = DocumentLayout.from_lengths([[20, 12], [32]], 32)
TOKENS = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(1))
READOUT = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(2))


def decoder() -> Decoder:
    config = ModelConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
    )
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    (model(TOKENS, LAYOUT) * READOUT).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputed_gradients_are_equal_and_the_names_stay(recompute: Recompute) -> None:
    kept, recomputed = decoder(), decoder()
    prepare_layers(recomputed, recompute)
    assert list(recomputed.state_dict()) == list(kept.state_dict())
    wanted, found = gradients(kept), gradients(recomputed)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("recompute", "calls"), [("none", 1), ("selective", 2), ("full", 2)])
def test_recomputing_runs_each_layer_twice(recompute: Recompute, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ran = decoder(), []
    forward = type(model.model.layers[0]).forward
    monkeypatch.setattr(
        type(model.model.layers[0]), "forward", lambda layer, *args: (ran.append(layer), forward(layer, *args))[1]
    )
    prepare_layers(model, recompute)
    gradients(model)
    assert len(ran) == calls * len(model.model.layers)


def test_training_with_recomputation_is_the_same_training(
    make_toy: Make, make_batch: Make, objective: Objective
) -> None:
    curves = []
    for recompute in ("none", "full"):
        trainer = Trainer(make_toy(), OptimizerConfig(), objective, recompute=recompute)
        curves.append([trainer.step([make_batch(step)], 0.01) for step in range(4)])
    assert curves[0] == curves[1]


@pytest.mark.parametrize("run", [blocks._plain, blocks._selective, blocks._full])
def test_layers_share_one_compiled_function(run: blocks.Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain operations, which a GPU runs: one graph, gradients equal but for rounding."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr("thinkling.model.decoder._on_cpu", lambda x: False)
    monkeypatch.setattr("thinkling.model.decoder.packed_attention", _one_document)
    plain, compiled = decoder(), decoder()
    function = torch.compile(run, backend="aot_eager")
    for layer in compiled.model.layers:
        layer.forward = partial(function, layer)
    wanted, found = gradients(plain), gradients(compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


def _one_document(q: Any, k: Any, v: Any, *_: Any) -> torch.Tensor:
    heads = (x.transpose(1, 2) for x in (q, k, v))
    return nn.functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True).transpose(1, 2)


def test_attention_is_an_operation_that_is_kept() -> None:
    kept = blocks._attention()
    assert torch.ops.aten._scaled_dot_product_cudnn_attention.default in kept
    assert len(kept) == 4


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_uses_the_copies_of_the_weights(recompute: Recompute) -> None:
    """With fp32 weights and bf16 computation, layers were recomputed with the fp32 weights, which raised an error."""

    def trained(recompute: Recompute) -> dict[str, torch.Tensor]:
        def objective(model: nn.Module, batch: torch.Tensor) -> Any:
            return (model(batch, LAYOUT).float() * READOUT).sum(), batch.numel(), {}

        precision = PrecisionConfig(compute="bfloat16")
        trainer = Trainer(decoder(), OptimizerConfig(lr=1e-2), objective, precision=precision, recompute=recompute)
        trainer.step([TOKENS], 1e-2)
        return trainer.model.state_dict()

    wanted, found = trained("none"), trained(recompute)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
