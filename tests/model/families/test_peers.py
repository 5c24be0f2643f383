"""Every built-in family and rope variant against transformers: logits, gradients, sampling, files both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.model.families.peers import CASES, VOCAB, config_of, old_form, saved
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine, weights
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.families import FAMILIES
from thinkling.model.huggingface import load_pretrained, read_config, save_pretrained
from thinkling.model.loss import chunked_cross_entropy

LENGTHS, ROW = [[20, 9, 30], [64], [3, 50]], 64
TOKENS = torch.randint(VOCAB, (3, ROW), generator=torch.Generator().manual_seed(1))


def both(case: str, directory: Path) -> tuple[Decoder, Any]:
    peer = saved(case, directory)
    return load_pretrained(directory), peer


def assert_equal(found: Tensor, reference: Tensor) -> None:
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_every_family_has_a_case(tmp_path: Path) -> None:
    found = set()
    for case in CASES:
        config_of(case).save_pretrained(tmp_path / case)
        found.add(read_config(tmp_path / case).architecture)
    assert found == set(FAMILIES.built_in)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_transformers_packed_and_not(case: str, tmp_path: Path) -> None:
    model, peer = both(case, tmp_path)
    layout = DocumentLayout.from_lengths(LENGTHS, ROW)
    with torch.no_grad():
        assert_equal(model.logits(model(TOKENS)), peer(input_ids=TOKENS).logits)
        packed = model.logits(model(TOKENS, layout))
        for row, sizes in enumerate(LENGTHS):
            for document in range(len(sizes)):
                inside = slice(sum(sizes[:document]), sum(sizes[: document + 1]))
                assert_equal(packed[row, inside], peer(input_ids=TOKENS[row : row + 1, inside]).logits[0])


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_transformers(case: str, tmp_path: Path) -> None:
    model, peer = both(case, tmp_path)
    labels = TOKENS.roll(-1, 1)
    labels[:, -1] = -100
    loss = chunked_cross_entropy(model(TOKENS).flatten(0, 1), model.output_weight, labels.flatten(), chunk=50)
    loss = loss / (labels != -100).sum()
    loss.backward()
    expected = peer(input_ids=TOKENS, labels=TOKENS).loss
    expected.backward()
    assert_equal(loss, expected)
    peers = dict(peer.named_parameters())
    assert {name: p.shape for name, p in model.named_parameters()} == {name: p.shape for name, p in peers.items()}
    largest = max(float(weight.grad.abs().max()) for weight in peers.values())
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        reference = peers[name].grad
        # A gradient of nearly nothing has the rounding of the large ones that it comes from.
        assert (weight.grad - reference).abs().max() <= 2e-5 * reference.abs().max() + 1e-7 * largest, name


@pytest.mark.parametrize("case", CASES)
def test_greedy_text_is_transformers(case: str, tmp_path: Path) -> None:
    model, peer = both(case, tmp_path)
    assert weights.supports(model.config)
    prompts = [TOKENS[i % 3, i : i + n].tolist() for i, n in enumerate((1, 25, 8))]
    asked = [Request(tuple(prompt), 0, 16) for prompt in prompts]
    found = NativeEngine(model, 2).generate(asked, Sampling(0.0))
    for prompt, completion in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        whole = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert completion.tokens == whole[0, len(prompt) :].tolist()
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *completion.tokens]])
            logits = model.logits(model(ids))[0, len(prompt) - 1 : -1]
        picked = torch.log_softmax(logits, -1).amax(-1)
        assert (picked - torch.tensor(completion.logprobs)).abs().max() <= 1e-5 * logits.abs().max()


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_was_read(case: str, tmp_path: Path) -> None:
    model, peer = both(case, tmp_path / "theirs")
    save_pretrained(model, tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(reloaded) is type(peer)
    with torch.no_grad():
        assert torch.equal(reloaded(input_ids=TOKENS).logits, peer(input_ids=TOKENS).logits)
    assert read_config(tmp_path / "ours") == model.config
    save_pretrained(load_pretrained(tmp_path / "ours"), tmp_path / "again")
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (tmp_path / "ours" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("case", CASES)
def test_the_old_form_of_a_configuration_reads_alike(case: str, tmp_path: Path) -> None:
    config_of(case).save_pretrained(tmp_path)
    new = read_config(tmp_path)
    old_form(tmp_path)
    assert "rope_parameters" not in json.loads((tmp_path / "config.json").read_text())
    assert read_config(tmp_path) == new


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_counted_and_initialised(case: str, tmp_path: Path) -> None:
    config_of(case).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    model = Decoder(config)
    assert config.parameter_count() == sum(p.numel() for p in model.parameters())
    model.init_weights(torch.Generator().manual_seed(0))
    tokens, optimizer, losses = TOKENS[:, :24], torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(4):
        loss = (
            chunked_cross_entropy(model(tokens).flatten(0, 1), model.output_weight, tokens.flatten()) / tokens.numel()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
