"""Chunked losses against torch's own, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from thinkling.errors import UserError
from thinkling.model import loss as module
from thinkling.model.loss import (
    CappedHead,
    chunked_cross_entropy,
    chunked_cross_entropy_and_z_loss,
    chunked_log_probs,
    even_chunks,
)


def _inputs(dtype: torch.dtype = torch.float32, ignored: bool = True, tokens: int = 37, vocab: int = 50):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(tokens, 12, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(vocab, 12, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    labels = torch.randint(vocab, (tokens,), generator=generator)
    if ignored:
        labels[[0, 5, 6, -1]] = -100
    return x, weight, labels


def _assert_close(found: torch.Tensor, reference: torch.Tensor) -> None:
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("chunk", [1, 8, 37, None])
@pytest.mark.parametrize("ignored", [True, False])
def test_cross_entropy_equals_torch(chunk: int | None, ignored: bool) -> None:
    x, weight, labels = _inputs(ignored=ignored)
    reference = F.cross_entropy(x @ weight.t(), labels, reduction="sum", ignore_index=-100)
    expected = torch.autograd.grad(reference * 0.3, (x, weight))
    loss = chunked_cross_entropy(x, weight, labels, chunk)
    found = torch.autograd.grad(loss * 0.3, (x, weight))
    assert loss.dtype == torch.float32
    _assert_close(loss, reference)
    for a, b in zip(found, expected, strict=True):
        _assert_close(a, b)


@pytest.mark.parametrize("chunk", [1, 8, 37, None])
@pytest.mark.parametrize("ignored", [True, False])
def test_the_path_of_gpus_equals_torch(chunk: int | None, ignored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its operations on a CPU, not compiled; with the indices given, and found."""
    monkeypatch.setattr(module, "_by_chunk", module._on_gpu)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(module, "_compiled", lambda: module.loss_and_gradient)
    x, weight, labels = _inputs(ignored=ignored)
    reference = F.cross_entropy(x @ weight.t(), labels, reduction="sum", ignore_index=-100)
    expected = torch.autograd.grad(reference * 0.3, (x, weight))
    for kept in (None, (labels != -100).nonzero().flatten()):
        loss = chunked_cross_entropy(x, weight, labels, chunk, kept)
        _assert_close(loss, reference)
        for a, b in zip(torch.autograd.grad(loss * 0.3, (x, weight)), expected, strict=True):
            _assert_close(a, b)


def test_a_frozen_head_on_a_gpu_has_the_same_loss_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With adapters, only the hidden states need a gradient."""
    monkeypatch.setattr(module, "_by_chunk", module._on_gpu)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(module, "_compiled", lambda: module.loss_and_gradient)
    x, weight, labels = _inputs()
    reference = chunked_cross_entropy(x, weight, labels, 8)
    loss = chunked_cross_entropy(x, weight.detach(), labels, 8)
    assert torch.equal(loss, reference)
    found, expected = (torch.autograd.grad(each, x)[0] for each in (loss, reference))
    assert torch.equal(found, expected)


def test_a_frozen_head_changes_no_gradient_of_log_probs() -> None:
    x, weight, labels = _inputs()
    found, expected = (
        torch.autograd.grad(chunked_log_probs(x, head, labels, 1.0, 8).sum(), x)[0]
        for head in (weight.detach(), weight)
    )
    assert torch.equal(found, expected)


def test_the_path_of_gpus_accepts_a_batch_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_chunk", module._on_gpu)  # pyright: ignore[reportPrivateUsage]
    x, weight, labels = _inputs()
    loss = chunked_cross_entropy(x, weight, torch.full_like(labels, -100))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, (x, weight)))


def _with_z_loss(
    x: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, z_weight: float, cap: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """By torch's operations on whole logits."""
    logits = x @ weight.t()
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    z_loss = z_weight * logits[labels != -100].logsumexp(-1).square().sum()
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=-100) + z_loss, z_loss


@pytest.mark.parametrize("cap", [None, 2.5])
@pytest.mark.parametrize("chunk", [1, 8, None])
@pytest.mark.parametrize("ignored", [True, False])
def test_z_loss_equals_autograd_in_fp64(chunk: int | None, ignored: bool, cap: float | None) -> None:
    x, weight, labels = _inputs(torch.float64, ignored=ignored)
    head = weight if cap is None else CappedHead(weight, cap)
    wanted, z_wanted = _with_z_loss(x, weight, labels, 0.05, cap)
    loss, z_loss = chunked_cross_entropy_and_z_loss(x, head, labels, 0.05, chunk)
    assert not z_loss.requires_grad
    assert torch.allclose(loss, wanted, rtol=1e-12)
    assert torch.allclose(z_loss, z_wanted, rtol=1e-12)
    expected = torch.autograd.grad(wanted * 0.3, (x, weight))
    for a, b in zip(torch.autograd.grad(loss * 0.3, (x, weight)), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_z_loss_gradcheck() -> None:
    x, weight, labels = _inputs(torch.float64, tokens=9, vocab=7)
    assert torch.autograd.gradcheck(lambda x, w: chunked_cross_entropy_and_z_loss(x, w, labels, 0.1, 2)[0], (x, weight))


@pytest.mark.parametrize("chunk", [8, None])
@pytest.mark.parametrize("ignored", [True, False])
def test_z_loss_on_the_path_of_gpus(chunk: int | None, ignored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32, not compiled, against autograd in fp64."""
    monkeypatch.setattr(module, "_by_chunk", module._on_gpu)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(module, "_compiled", lambda: module.loss_and_gradient)
    doubles = _inputs(torch.float64, ignored=ignored)
    wanted, z_wanted = _with_z_loss(*doubles, 0.05)
    expected = torch.autograd.grad(wanted * 0.3, doubles[:2])
    x, weight, labels = _inputs(ignored=ignored)
    loss, z_loss = chunked_cross_entropy_and_z_loss(x, weight, labels, 0.05, chunk)
    _assert_close(loss, wanted)
    _assert_close(z_loss, z_wanted)
    for a, b in zip(torch.autograd.grad(loss * 0.3, (x, weight)), expected, strict=True):
        _assert_close(a, b)


def test_a_z_loss_of_weight_0_is_the_cross_entropy_bit_for_bit() -> None:
    x, weight, labels = _inputs()
    plain = chunked_cross_entropy(x, weight, labels, 8)
    loss, z_loss = chunked_cross_entropy_and_z_loss(x, weight, labels, 0.0, 8)
    assert torch.equal(loss, plain)
    assert z_loss == 0
    for a, b in zip(*(torch.autograd.grad(y, (x, weight)) for y in (loss, plain)), strict=True):
        assert torch.equal(a, b)


def test_z_loss_computes_the_logits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One product of hidden states and head per chunk, and two for the gradients."""
    x, weight, labels = _inputs()
    calls = []
    with torch.profiler.profile() as profile:
        chunked_cross_entropy_and_z_loss(x, weight, labels, 0.1, 37)[0].backward()
    calls = [event.key for event in profile.key_averages() for _ in range(event.count)]
    assert sum(key in ("aten::mm", "aten::addmm_") for key in calls) == 3


@pytest.mark.parametrize(("n", "size"), [(16384, 4213), (10, 3), (7, 7), (8, 100), (1, 1), (0, 5)])
def test_chunks_are_equal_but_for_the_last(n: int, size: int) -> None:
    sizes = [len(x) for x in even_chunks(torch.arange(n), size)]
    assert sum(sizes) == n
    assert len(sizes) == max(1, -(-n // size))
    assert max(sizes) <= size
    assert len(set(sizes[:-1])) <= 1


def test_cross_entropy_gradcheck() -> None:
    x, weight, labels = _inputs(torch.float64, tokens=9, vocab=7)
    assert torch.autograd.gradcheck(lambda x, w: chunked_cross_entropy(x, w, labels, 2), (x, weight))


def test_cross_entropy_of_extreme_logits_is_finite() -> None:
    x, weight, labels = _inputs(ignored=False)
    x = (x.detach() * 1e4).requires_grad_()
    loss = chunked_cross_entropy(x, weight, labels)
    _assert_close(loss, F.cross_entropy(x @ weight.t(), labels, reduction="sum"))
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (x, weight)))


def test_head_gradient_of_bf16_is_summed_in_fp32() -> None:
    """Thousands of chunks of one equal gradient: a bf16 sum would stop growing."""
    x = torch.ones(4000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    chunked_cross_entropy(x, weight, torch.zeros(4000, dtype=torch.int64), chunk=1).backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [-2000.0, 2000.0]


def test_all_labels_ignored() -> None:
    x, weight, labels = _inputs()
    loss = chunked_cross_entropy(x, weight, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_hidden_states_of_ignored_tokens_do_not_count() -> None:
    x, weight, labels = _inputs()
    poisoned = x.detach().clone()
    poisoned[labels == -100] = float("nan")
    poisoned.requires_grad_()
    loss = chunked_cross_entropy(poisoned, weight, labels)
    assert torch.equal(loss, chunked_cross_entropy(x, weight, labels))
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (poisoned, weight)))


def test_no_gradient_work_where_none_is_asked() -> None:
    x, weight, labels = _inputs()
    with torch.no_grad():
        loss = chunked_cross_entropy(x, weight, labels)
    _assert_close(loss, chunked_cross_entropy(x, weight, labels).detach())
    frozen = chunked_cross_entropy(x, weight.detach(), labels)
    (dx,) = torch.autograd.grad(frozen, (x,))
    _assert_close(dx, torch.autograd.grad(chunked_cross_entropy(x, weight, labels), (x,))[0])


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [5, None])
def test_log_probs_equal_torch(temperature: float, chunk: int | None) -> None:
    x, weight, labels = _inputs()
    kept = labels != -100
    everything = torch.log_softmax(x @ weight.t() / temperature, -1)
    reference = torch.zeros(len(labels))
    reference[kept] = everything[kept].gather(-1, labels[kept].unsqueeze(-1)).squeeze(-1)
    slope = torch.randn(len(labels), generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad((reference * slope).sum(), (x, weight))
    log_probs = chunked_log_probs(x, weight, labels, temperature, chunk)
    found = torch.autograd.grad((log_probs * slope).sum(), (x, weight))
    _assert_close(log_probs, reference)
    for a, b in zip(found, expected, strict=True):
        _assert_close(a, b)


def test_log_probs_gradcheck() -> None:
    x, weight, labels = _inputs(torch.float64, tokens=9, vocab=7)
    assert torch.autograd.gradcheck(lambda x, w: chunked_log_probs(x, w, labels, 0.7, 2), (x, weight))


@pytest.mark.parametrize("chunk", [8, None])
def test_a_soft_cap_on_logits_is_in_both_losses(chunk: int | None) -> None:
    x, weight, labels = _inputs()
    capped = torch.tanh(x @ weight.t() / 2.5) * 2.5
    reference = F.cross_entropy(capped, labels, reduction="sum", ignore_index=-100)
    loss = chunked_cross_entropy(x, CappedHead(weight, 2.5), labels, chunk)
    slope = torch.randn(len(labels), generator=torch.Generator().manual_seed(0))
    log_probs = chunked_log_probs(x, CappedHead(weight, 2.5), labels, 0.7, chunk)
    expected = -F.cross_entropy(capped / 0.7, labels, reduction="none", ignore_index=-100)
    for found, wanted in ((loss, reference), (log_probs @ slope, expected @ slope)):
        _assert_close(found, wanted)
        for a, b in zip(
            *(torch.autograd.grad(y, (x, weight), retain_graph=True) for y in (found, wanted)), strict=True
        ):
            _assert_close(a, b)


def test_a_loss_that_would_leave_out_the_soft_cap_is_stopped() -> None:
    x, weight, _ = _inputs()
    head = CappedHead(weight, 2.5)
    assert (len(head), len(head[:7]), head[:7].cap) == (50, 7, 2.5)
    with pytest.raises(UserError, match="final_logit_softcapping: the logits of this model have a soft cap"):
        x @ head[:7].t()
