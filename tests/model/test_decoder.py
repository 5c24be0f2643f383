"""The decoder against transformers, packed and not; documents against themselves alone."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from thinkling.model import decoder as decoder_module
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.loss import chunked_cross_entropy

LENGTHS, ROW = [[20, 9, 30], [64], [3, 50]], 64
SHAPE: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
PEERS: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def _models(architecture: str, tied: bool) -> tuple[Decoder, PreTrainedModel]:
    """A random decoder, norms and biases included, and transformers' model with its weights."""
    shape = SHAPE | {"tie_word_embeddings": tied}
    model = Decoder(ModelConfig.model_validate(shape | {"architecture": architecture, "rope_theta": 5e3}))
    generator = torch.Generator().manual_seed(7)
    model.init_weights(generator)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    rope = {"rope_type": "default", "rope_theta": 5e3}
    config, cls = PEERS[architecture]
    peer = cls(config(**shape, rope_parameters=rope))
    missing, unexpected = peer.load_state_dict(model.state_dict(), strict=False)
    assert missing == (["lm_head.weight"] if tied else [])
    assert not unexpected
    return model, peer


def _tokens(rows: int, length: int) -> Tensor:
    return torch.randint(99, (rows, length), generator=torch.Generator().manual_seed(1))


def _assert_equal(found: Tensor, reference: Tensor) -> None:
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


def _block_diagonal(lengths: list[list[int]], length: int) -> Tensor:
    """bool (B, 1, T, T): causal inside each document; padding sees itself."""
    mask = torch.eye(length, dtype=torch.bool).repeat(len(lengths), 1, 1, 1)
    for row, sizes in enumerate(lengths):
        start = 0
        for n in sizes:
            mask[row, 0, start : start + n, start : start + n] = torch.ones(n, n).tril().bool()
            start += n
    return mask


def _inside(lengths: list[list[int]], length: int) -> Tensor:
    return torch.stack([torch.arange(length) < sum(row) for row in lengths])


@pytest.mark.parametrize("architecture", PEERS)
@pytest.mark.parametrize("tied", [True, False])
class TestOracle:
    def test_unpacked_logits(self, architecture: str, tied: bool) -> None:
        model, peer = _models(architecture, tied)
        tokens = _tokens(2, 70)
        with torch.no_grad():
            _assert_equal(model.logits(model(tokens)), peer(input_ids=tokens).logits)

    def test_packed_logits(self, architecture: str, tied: bool) -> None:
        model, peer = _models(architecture, tied)
        tokens, layout = _tokens(3, ROW), DocumentLayout.from_lengths(LENGTHS, ROW)
        inside = _inside(LENGTHS, ROW)
        with torch.no_grad():
            mask = _block_diagonal(LENGTHS, ROW)
            expected = peer(input_ids=tokens, attention_mask=mask, position_ids=layout.positions_BT).logits
            _assert_equal(model.logits(model(tokens, layout))[inside], expected[inside])

    def test_packed_equals_alone(self, architecture: str, tied: bool) -> None:
        model, peer = _models(architecture, tied)
        tokens, layout = _tokens(3, ROW), DocumentLayout.from_lengths(LENGTHS, ROW)
        with torch.no_grad():
            packed = model.logits(model(tokens, layout))
            for row, sizes in enumerate(LENGTHS):
                start = 0
                for n in sizes:
                    alone = tokens[row : row + 1, start : start + n]
                    _assert_equal(packed[row, start : start + n], model.logits(model(alone))[0])
                    _assert_equal(packed[row, start : start + n], peer(input_ids=alone).logits[0])
                    start += n

    def test_gradients(self, architecture: str, tied: bool) -> None:
        model, peer = _models(architecture, tied)
        tokens = _tokens(2, 70)
        labels = tokens.roll(-1, 1)
        labels[:, -1] = -100
        loss = chunked_cross_entropy(model(tokens).flatten(0, 1), model.output_weight, labels.flatten()) / 138
        loss.backward()
        expected = peer(input_ids=tokens, labels=tokens).loss
        expected.backward()
        _assert_equal(loss, expected)
        peers = dict(peer.named_parameters())
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            reference = peers[name].grad
            assert reference is not None
            _assert_equal(weight.grad, reference)

    def test_bf16_plain_path(self, architecture: str, tied: bool) -> None:
        """What a GPU runs, but for the attention kernel."""
        model, _ = _models(architecture, tied)
        tokens, layout = _tokens(3, ROW), DocumentLayout.from_lengths(LENGTHS, ROW)
        with torch.no_grad():
            reference = model(tokens, layout)
            found = model.bfloat16()(tokens, layout)
        assert found.dtype == torch.bfloat16
        inside = _inside(LENGTHS, ROW)
        assert (found.float() - reference)[inside].abs().max() <= 0.05 * reference[inside].abs().max()


def test_another_documents_tokens_change_nothing() -> None:
    model, _ = _models("llama", True)
    layout = DocumentLayout.from_lengths(LENGTHS, ROW)
    tokens = _tokens(3, ROW)
    changed = tokens.clone()
    changed[0, 20:29] = (changed[0, 20:29] + 1) % 99
    with torch.no_grad():
        difference = (model(tokens, layout) - model(changed, layout)).abs().amax(-1)
    assert difference[0, 20:29].all()
    difference[0, 20:29] = 0
    assert not difference.any()


def test_padding_changes_nothing_and_is_finite() -> None:
    model, _ = _models("qwen3", True)
    layout = DocumentLayout.from_lengths(LENGTHS, ROW)
    tokens = _tokens(3, ROW)
    inside = _inside(LENGTHS, ROW)
    with torch.no_grad():
        found, other = model(tokens, layout), model(torch.where(inside, tokens, 0), layout)
    assert found.isfinite().all()
    assert torch.equal(found[inside], other[inside])


def test_rope_theta_can_be_raised() -> None:
    model, peer = _models("llama", True)
    before = model.config
    model.set_rope_theta(2e6)
    assert (model.config.rope_theta, before.rope_theta) == (2e6, 5e3)
    raised = LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters={"rope_type": "default", "rope_theta": 2e6}))
    raised.load_state_dict(peer.state_dict())
    tokens = _tokens(1, 70)
    with torch.no_grad():
        _assert_equal(model.logits(model(tokens)), raised(input_ids=tokens).logits)


def test_parameter_names_are_hugging_faces() -> None:
    for architecture in PEERS:
        model, peer = _models(architecture, False)
        assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in peer.named_parameters()}


def test_plain_path_trains_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients of the modules that a GPU runs, in fp32 on the CPU, on packed rows."""
    model, _ = _models("qwen3", True)
    tokens, layout = _tokens(3, ROW), DocumentLayout.from_lengths(LENGTHS, ROW)
    labels = torch.where(_inside(LENGTHS, ROW), tokens, -100).flatten()
    found: list[list[Tensor]] = []
    for on_cpu in (True, False):
        monkeypatch.setattr(decoder_module, "_on_cpu", lambda _, answer=on_cpu: answer)
        loss = chunked_cross_entropy(model(tokens, layout).flatten(0, 1), model.output_weight, labels)
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for a, b in zip(*found, strict=True):
        _assert_equal(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("architecture", PEERS)
def test_gpu_equals_cpu(architecture: str) -> None:
    model, _ = _models(architecture, True)
    tokens = _tokens(3, ROW)
    labels = torch.where(_inside(LENGTHS, ROW), tokens, -100).flatten()
    losses = []
    for device in ("cpu", "cuda"):
        model = model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)
        layout = DocumentLayout.from_lengths(LENGTHS, ROW, device)
        x = model(tokens.to(device), layout)
        loss = chunked_cross_entropy(x.flatten(0, 1), model.output_weight, labels.to(device))
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_leaving_padding_out_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """States in documents, loss and gradients with padding computed and with it left out."""
    model, _ = _models("llama", True)
    tokens, layout = _tokens(3, ROW), DocumentLayout.from_lengths(LENGTHS, ROW)
    inside = _inside(LENGTHS, ROW)
    labels = torch.where(inside, tokens, -100).flatten()
    found: list[list[Tensor]] = []
    for much in (0.0, 1.0):
        monkeypatch.setattr(decoder_module, "MUCH_PADDING", much)
        monkeypatch.setattr(decoder_module, "LEAST_PADDING", 0)
        states = model(tokens, layout)
        loss = chunked_cross_entropy(states.flatten(0, 1), model.output_weight, labels)
        found.append([states[inside], loss, *torch.autograd.grad(loss, list(model.parameters()))])
        assert states.isfinite().all()
        assert states[~inside].any() == (much == 1.0)
    for a, b in zip(*found, strict=True):
        _assert_equal(a, b)


def test_a_batch_of_padding_alone() -> None:
    model, _ = _models("llama", True)
    assert model(_tokens(2, 8), DocumentLayout.from_lengths([[], []], 8)).isfinite().all()
