"""The hand-written halves of a layer: gradients by finite differences, and the plain modules as reference."""

import pytest
import torch

from thinkling.model import decoder
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder, DecoderLayer
from thinkling.model.fused import AttentionHalf, MLPHalf, RMSNormFunction
from thinkling.model.rotary import Rotary, rotary_tables

LENGTHS, ROW = [[3, 4], [5]], 7
LAYOUT = DocumentLayout.from_lengths(LENGTHS, ROW)
INSIDE = torch.tensor([[1.0] * 7, [1.0] * 5 + [0.0] * 2], dtype=torch.float64).view(14, 1)


def _layer(architecture: str, dtype: torch.dtype = torch.float64) -> DecoderLayer:
    config = ModelConfig.model_validate(
        {
            "architecture": architecture,
            "vocab_size": 5,
            "hidden_size": 6,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 4,
        }
    )
    model = Decoder(config).to(dtype)
    generator = torch.Generator().manual_seed(2)
    model.init_weights(generator)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.add_(torch.randn(weight.shape, generator=generator, dtype=dtype), alpha=0.3)
    layer = model.model.layers[0]
    assert isinstance(layer, DecoderLayer)
    return layer


def _states(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(14, 6, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def test_rms_norm_gradcheck() -> None:
    weight = torch.tensor([1.0, -0.5, 0.0, 2.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: RMSNormFunction.apply(x, w, 1e-2), (_states(), weight))


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_attention_half_gradcheck(architecture: str) -> None:
    layer = _layer(architecture)
    attention = layer.self_attn
    norms = [attention.q_norm.weight, attention.k_norm.weight] if attention.qk_norm else []
    weights = [getattr(attention, f"{name}_proj").weight for name in "qkvo"]
    cos, sin = torch.rand(2, 2, ROW, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotary = Rotary(cos, sin)  # any numbers: the gradient must hold for the angle's cosine and sine apart

    def half(x: torch.Tensor, norm: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        q_norm, k_norm = rest[4:] if norms else (None, None)
        return AttentionHalf.apply(x, norm, *rest[:4], q_norm, k_norm, 4, 1e-2, rotary, LAYOUT.plan) * INSIDE

    inputs = (_states(), layer.input_layernorm.weight, *weights, *norms)
    assert torch.autograd.gradcheck(half, inputs)


def test_mlp_half_gradcheck() -> None:
    layer = _layer("llama")
    mlp = layer.mlp
    weights = (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
    inputs = (_states(), layer.post_attention_layernorm.weight, *weights)
    assert torch.autograd.gradcheck(lambda *tensors: MLPHalf.apply(*tensors, 1e-2), inputs)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_halves_equal_the_plain_modules(architecture: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = _layer(architecture, dtype)
    rotary = Rotary(*rotary_tables(LAYOUT.positions_BT, 4, 1e4))
    x = _states(dtype)
    slope = torch.randn(14, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    results = []
    for on_cpu in (True, False):
        monkeypatch.setattr(decoder, "_on_cpu", lambda _, answer=on_cpu: answer)
        y = layer(x, rotary, LAYOUT) * INSIDE.to(dtype)
        results.append((y, *torch.autograd.grad(y, (x, *layer.parameters()), slope)))
    for found, reference in zip(*results, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 1e-13
        assert (found - reference).abs().max() <= tolerance * reference.abs().max()
