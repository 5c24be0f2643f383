"""Models whose linear layers use fp8, in training."""

# pyright: reportPrivateUsage=false

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from thinkling.data.packing import PackedBatch
from thinkling.model.config import Float8Recipe, LoraConfig, ModelConfig
from thinkling.model.decoder import Decoder, DecoderLayer
from thinkling.model.float8 import RECIPES, Float8Linear
from thinkling.model.lora import LoraLinear, add_adapters, is_adapter
from thinkling.stages.training.objective import next_token_objective
from thinkling.train import blocks
from thinkling.train.config import OptimizerConfig, PrecisionConfig, Recompute
from thinkling.train.float8 import missing_for_float8, use_float8
from thinkling.train.trainer import Trainer

NAMES = list(RECIPES)
TOKENS = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(1))
READOUT = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(2))


def decoder(**sizes: Any) -> Decoder:
    shape = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
    }
    model = Decoder(ModelConfig.model_validate(shape | sizes))
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    (model(TOKENS) * READOUT).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def linears(model: Decoder) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def test_all_linear_layers_but_the_head_use_fp8() -> None:
    model = decoder(tie_word_embeddings=False)
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    use_float8(model, "rowwise")
    assert {name for name, module in linears(model).items() if not isinstance(module, Float8Linear)} == {"lm_head"}
    assert len(linears(model)) == 2 * 7 + 1
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    replaced = linears(model)
    use_float8(model, "rowwise")
    assert all(module is replaced[name] for name, module in linears(model).items())


def test_sizes_that_the_kernels_do_not_support_are_left_as_they_are() -> None:
    model = decoder(head_dim=8, num_attention_heads=2, num_key_value_heads=1)
    use_float8(model, "rowwise")
    plain = {name.rpartition(".")[2] for name, module in linears(model).items() if type(module) is nn.Linear}
    assert plain == {"k_proj", "v_proj"}  # 8 outputs
    assert gradients(model).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3", "gemma3_text", "olmo2"])
@pytest.mark.parametrize("recipe", NAMES)
def test_a_decoder_in_fp8_is_near_the_decoder(recipe: Float8Recipe, architecture: str) -> None:
    """With biases, and with projections in one parameter. Errors of fp8 are 3 to 6% per product."""
    plain, rounded = decoder(architecture=architecture), decoder(architecture=architecture)
    use_float8(rounded, recipe)
    assert all(type(module) is Float8Linear for name, module in linears(rounded).items() if name != "lm_head")
    y, found = plain(TOKENS), rounded(TOKENS)
    assert 1e-3 < ((found - y).norm() / y.norm()).item() < 0.15
    wanted, got = gradients(plain), gradients(rounded)
    assert got.keys() == wanted.keys()
    assert_near(got, wanted)


def assert_near(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Gradients point in nearly the same direction. Those of queries and keys amplify errors the most."""
    for name, gradient in wanted.items():
        assert nn.functional.cosine_similarity(found[name].flatten(), gradient.flatten(), 0) > 0.85, name
    whole = (torch.cat([gradients[name].flatten() for name in wanted]) for gradients in (found, wanted))
    assert nn.functional.cosine_similarity(*whole, 0) > 0.9


def test_projections_stacked_and_one_by_one_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one scale per row, the product of a stack of weights is the stack of the products."""
    stacked, apart = decoder(), decoder()
    for model in (stacked, apart):
        use_float8(model, "rowwise")
    wanted = stacked(TOKENS)
    monkeypatch.setattr("thinkling.model.decoder._on_cpu", lambda x: False)
    found = apart(TOKENS.expand(2, 32))
    assert (found - wanted).abs().max() <= 1e-2 * wanted.abs().max()


@pytest.mark.parametrize(
    ("recompute", "recipe"), [("none", "tensorwise"), ("selective", "rowwise"), ("full", "rowwise_with_gw_hp")]
)
def test_layers_in_fp8_compile_into_one_graph(
    recompute: Recompute, recipe: Float8Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plain operations, which a GPU runs, and torch's own scaled product."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr("thinkling.model.decoder._on_cpu", lambda x: False)
    monkeypatch.setattr("thinkling.model.decoder.packed_attention", _one_document)
    monkeypatch.setattr("thinkling.model.float8._product", _by_torch)
    plain, compiled = decoder(), decoder()
    run = {"none": blocks._plain, "selective": blocks._selective, "full": blocks._full}[recompute]
    function = torch.compile(run, backend="aot_eager")
    for model in (plain, compiled):
        use_float8(model, recipe)
    for layer in compiled.model.layers:
        layer.forward = partial(function, layer)
    wanted, found = gradients(plain), gradients(compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-2 * gradient.norm(), name


def _by_torch(*args: Any, **kwargs: Any) -> torch.Tensor:
    from thinkling.model.float8 import scaled_product

    return scaled_product(*args, **kwargs)


def _one_document(q: Any, k: Any, v: Any, *_: Any) -> torch.Tensor:
    heads = (x.transpose(1, 2) for x in (q, k, v))
    return nn.functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True).transpose(1, 2)


def test_adapters_are_trained_beside_frozen_products_in_fp8() -> None:
    def adapted() -> Decoder:
        model = decoder()
        add_adapters(model, LoraConfig.model_validate({"rank": 4, "targets": ["q_proj", "down_proj"]}), seed=3)
        generator = torch.Generator().manual_seed(4)
        for name, p in model.named_parameters():
            if name.endswith("lora_B.weight"):
                p.data.normal_(0, 0.1, generator=generator)
        return model

    plain, rounded = adapted(), adapted()
    use_float8(rounded, "rowwise")
    kinds = {name.rpartition(".")[2]: module for name, module in linears(rounded).items()}
    assert isinstance(kinds["q_proj"], LoraLinear)
    assert kinds["q_proj"].float8 == "rowwise"
    assert type(kinds["lora_A"]) is nn.Linear
    assert isinstance(kinds["k_proj"], Float8Linear)
    wanted, found = gradients(plain), gradients(rounded)
    assert found.keys() == wanted.keys() == {name for name, _ in plain.named_parameters() if is_adapter(name)}
    assert_near(found, wanted)
    assert list(rounded.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("recipe", NAMES)
def test_a_training_run_in_fp8_learns_as_in_fp32(recipe: Float8Recipe) -> None:
    """The losses of 40 steps, on text in which each token follows from the last two."""
    curves: list[list[float]] = []
    for precision in (PrecisionConfig(), PrecisionConfig(compute="bfloat16", float8=recipe)):
        model = decoder()
        assert isinstance(model.model.layers[0], DecoderLayer)
        trainer = Trainer(
            model, OptimizerConfig(lr=3e-3), next_token_objective(torch.device("cpu")), precision=precision
        )
        assert isinstance(linears(model)["model.layers.0.mlp.down_proj"], Float8Linear) == (
            precision.float8 is not None
        )
        curves.append([trainer.step([_text(step)], 3e-3).loss for step in range(40)])
        assert all(p.dtype == torch.float32 for p in model.parameters())
    wanted, found = (torch.tensor(curve) for curve in curves)
    assert wanted[-5:].mean() < 0.75 * wanted[0]
    assert ((found - wanted).abs() / wanted).max() < 0.02
    assert abs(found[-10:].mean() / wanted[-10:].mean() - 1) < 0.01


def _text(step: int) -> PackedBatch:
    rows = torch.randint(8, (4, 33), generator=torch.Generator().manual_seed(step))
    for i in range(2, 33):
        rows[:, i] = (3 * rows[:, i - 1] + rows[:, i - 2] + (rows[:, i] == 0)) % 8
    return PackedBatch(rows[:, :-1].numpy(), rows[:, 1:].numpy(), ((32,),) * 4)


def test_fp8_requires_bf16() -> None:
    with pytest.raises(ValueError, match="float8: the products of fp8 numbers are rounded to bf16; set compute"):
        PrecisionConfig(float8="rowwise")


@pytest.mark.parametrize(
    ("capability", "lacks"), [((9, 0), None), ((8, 9), None), ((10, 0), None), ((8, 6), "and this GPU has 8.6")]
)
def test_gpus_that_can(capability: tuple[int, int], lacks: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = missing_for_float8(torch.device("cuda", 0))
    assert found is None if lacks is None else found is not None and lacks in found


def test_other_devices_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "this machine has no GPU" in (missing_for_float8(torch.device("cpu")) or "")
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert "AMD" in (missing_for_float8(torch.device("cuda", 0)) or "")
