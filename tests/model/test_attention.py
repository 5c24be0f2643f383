"""Packed attention against one call a document, and against itself with another document changed."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.families.peers import block_diagonal
from thinkling.model import attention, attention_cpu
from thinkling.model.attention import DocumentLayout, attention_by_document, packed_attention

LAYOUTS = {
    "whole rows": ([[64], [64]], 64),
    "whole rows of two blocks": ([[130]], 130),
    "one document a row, padded": ([[40], [64], []], 64),
    "short documents": ([[5, 7, 1, 20, 3], [9, 9, 9, 9]], 40),
    "short and long rows": ([[70, 3, 150, 20], [243]], 250),
    "equal documents that fill the row": ([[100] * 8], 800),
    "longer than short": ([[600, 30, 41, 300]], 1000),
    "long ones alike": ([[600, 600], [600, 600]], 1200),
    "no document": ([[], []], 8),
}


def _inputs(
    rows: int, length: int, dtype: torch.dtype = torch.float32, heads: int = 4, kv_heads: int = 2, channels: int = 8
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(rows + length)
    return [
        torch.randn(rows, length, n, channels, generator=generator, dtype=dtype).requires_grad_()
        for n in (heads, kv_heads, kv_heads)
    ]


def _inside(lengths: Sequence[Sequence[int]], sequence_length: int) -> Tensor:
    """1 in a document, 0 in padding, (B, T, 1, 1)."""
    return torch.stack([(torch.arange(sequence_length) < sum(row)).float() for row in lengths])[:, :, None, None]


def _compare(lengths: Sequence[Sequence[int]], sequence_length: int, dtype: torch.dtype, tolerance: float) -> None:
    layout = DocumentLayout.from_lengths(lengths, sequence_length)
    inputs = _inputs(len(lengths), sequence_length, dtype)
    inside = _inside(lengths, sequence_length).to(dtype)
    found, reference = packed_attention(*inputs, layout), attention_by_document(*inputs, layout)
    assert found.isfinite().all()
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * inside
    pairs = [(found * inside, reference * inside)]
    pairs += zip(torch.autograd.grad(found, inputs, slope), torch.autograd.grad(reference, inputs, slope), strict=True)
    for a, b in pairs:
        assert a.dtype == dtype
        assert (a - b).abs().max() <= tolerance * max(b.abs().max().item(), 1e-3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_equals_one_call_a_document(name: str) -> None:
    _compare(*LAYOUTS[name], torch.float32, 1e-5)


@pytest.mark.parametrize("name", ["short documents", "longer than short"])
def test_bf16(name: str) -> None:
    _compare(*LAYOUTS[name], torch.bfloat16, 2e-2)


rows_of_documents = st.integers(8, 150).flatmap(
    lambda length: st.tuples(
        st.just(length),
        st.lists(st.lists(st.integers(1, length), max_size=12), min_size=1, max_size=4),
    )
)


@settings(max_examples=60, deadline=None)
@given(rows_of_documents, st.sampled_from([16, 64, 512]))
def test_any_layout(drawn: tuple[int, list[list[int]]], longest_short: int) -> None:
    sequence_length, wished = drawn
    lengths = []
    for row in wished:
        kept: list[int] = []
        for n in row:
            if sum(kept) + n <= sequence_length:
                kept.append(n)
        lengths.append(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_cpu, "LONGEST_SHORT", longest_short)
        patch.setattr(attention_cpu, "QUERY_BLOCK", 16)
        _compare(lengths, sequence_length, torch.float64, 1e-12)


@settings(max_examples=60, deadline=None)
@given(rows_of_documents)
def test_layout_counts(drawn: tuple[int, list[list[int]]]) -> None:
    sequence_length, wished = drawn
    lengths = [row if sum(row) <= sequence_length else [sequence_length] for row in wished]
    layout = DocumentLayout.from_lengths(lengths, sequence_length)
    bounds = layout.cu_seqlens.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths) * sequence_length
    expected = [0]
    for row in lengths:
        for n in (*row, sequence_length - sum(row)):
            if n:
                expected.append(expected[-1] + n)
    assert bounds == expected
    positions = layout.positions_BT.flatten().tolist()
    assert positions == [i for a, b in pairwise(bounds) for i in range(b - a)]


@pytest.mark.parametrize("lengths", [[[5, 4]], [[0, 3]], [[3], [-1]]])
def test_impossible_layouts_are_refused(lengths: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        DocumentLayout.from_lengths(lengths, 8)


@pytest.mark.parametrize(
    "lengths", [[[30, 20, 40, 38], [64, 64]], [[200, 300, 40]], [[600, 40, 700, 20]]], ids=["mask", "groups", "flash"]
)
def test_other_documents_are_unmoved_to_the_bit(lengths: list[list[int]]) -> None:
    """Outputs and gradients of all documents but the changed one, for each document in turn."""
    sequence_length = max(map(sum, lengths))
    layout = DocumentLayout.from_lengths(lengths, sequence_length)
    inputs = _inputs(len(lengths), sequence_length)
    slope = torch.ones_like(inputs[0])

    def run(tensors: list[Tensor]) -> list[Tensor]:
        out = packed_attention(*tensors, layout)
        return [out, *torch.autograd.grad(out, tensors, slope)]

    reference = run(inputs)
    for row, sizes in enumerate(lengths):
        start = 0
        for n in sizes:
            changed = [x.detach().clone() for x in inputs]
            for x in changed:
                x[row, start : start + n] *= -1e3
                x.requires_grad_()
            for a, b in zip(run(changed), reference, strict=True):
                moved = (a - b).abs().amax((2, 3))
                own = moved[row, start : start + n].clone()
                moved[row, start : start + n] = 0
                assert not moved.any()
                assert own.any() or n == 1
            start += n


@pytest.mark.parametrize("lengths", [[[9, 3], [4, 2, 5]], [[13], [11]]])
@pytest.mark.parametrize("longest_short", [4, 512])
def test_gradcheck(lengths: list[list[int]], longest_short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu, "QUERY_BLOCK", 4)
    monkeypatch.setattr(attention_cpu, "LONGEST_SHORT", longest_short)
    layout = DocumentLayout.from_lengths(lengths, 13)
    inside = _inside(lengths, 13).double()
    inputs = _inputs(2, 13, torch.float64, channels=2)
    assert torch.autograd.gradcheck(lambda q, k, v: packed_attention(q, k, v, layout) * inside, inputs)


def test_plan_takes_whole_rows_where_they_are_documents_and_groups_elsewhere() -> None:
    (group,) = DocumentLayout.from_lengths([[128]] * 8, 128).plan.groups
    assert (group.documents, group.length, group.tokens, group.mask) == (8, 128, None, None)
    plan = DocumentLayout.from_lengths([[256] * 16], 4096).plan
    (group,) = plan.groups
    assert (group.documents, group.length, group.tokens, plan.token_slots) == (16, 256, None, None)
    groups = DocumentLayout.from_lengths([[20, 22, 500, 24, 480, 900]], 2048).plan.groups
    assert sum(g.documents for g in groups) == 6
    assert sum(g.slots for g in groups) < 2048  # little padding
    assert any(g.length == 900 and g.tokens is None for g in groups)  # the long one as it lies


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("channels", [64, 128])
@pytest.mark.parametrize("window", [None, 17])
def test_gpu_equals_cpu(name: str, channels: int, window: int | None) -> None:
    lengths, sequence_length = LAYOUTS[name]
    inside = _inside(lengths, sequence_length)
    cpu = [
        x.detach().bfloat16().float().requires_grad_()
        for x in _inputs(len(lengths), sequence_length, channels=channels)
    ]
    gpu = [x.detach().bfloat16().cuda().requires_grad_() for x in cpu]
    slope = torch.randn(cpu[0].shape, generator=torch.Generator().manual_seed(0)).bfloat16().float() * inside
    reference = packed_attention(*cpu, DocumentLayout.from_lengths(lengths, sequence_length), window)
    found = packed_attention(*gpu, DocumentLayout.from_lengths(lengths, sequence_length, "cuda"), window)
    pairs = [(found.float().cpu() * inside, reference * inside)]
    grads = torch.autograd.grad(found, gpu, slope.bfloat16().cuda())
    pairs += zip((g.float().cpu() for g in grads), torch.autograd.grad(reference, cpu, slope), strict=True)
    for a, b in pairs:
        assert (a - b).abs().max() <= 2e-2 * max(b.abs().max().item(), 1e-3)


def test_speed_does_not_depend_on_a_mask_for_long_rows() -> None:
    """The tokens of claim speed.attention-cpu-4k: no group may hold a mask, whose size is quadratic in the row."""
    for lengths in ([[256] * 16], [[100, 400, 256, 240] * 4]):
        assert all(g.mask is None for g in DocumentLayout.from_lengths(lengths, 4096).plan.groups)


def test_reference_is_causal_sdpa() -> None:
    """The tests' own reference, on one row that is one document."""
    q, k, v = _inputs(1, 20)
    reference = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2))), is_causal=True
    ).transpose(1, 2)
    found = attention_by_document(q, k, v, DocumentLayout.from_lengths([[20]], 20))
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_layout_without_padding() -> None:
    layout, inside = DocumentLayout.from_lengths([[3, 1], [], [5]], 5).without_padding
    assert (layout.lengths, layout.sequence_length, layout.padding) == (((3, 1, 5),), 9, 0)
    assert inside.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 14]
    assert layout.positions_BT.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3, 4]]
    assert DocumentLayout.from_lengths([[3, 1], [], [5]], 5).padding == 6


def _by_mask(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, softcap: float | None) -> Tensor:
    """The textbook: all scores, a mask."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    return (torch.softmax(scores.masked_fill(~seen, -torch.inf), -1) @ v).transpose(1, 2)


@pytest.mark.parametrize("block", [512, 16])
@pytest.mark.parametrize(("window", "softcap"), [(9, None), (1, None), (500, None), (9, 0.7), (None, 0.7)])
def test_windows_and_soft_caps_equal_a_mask(
    window: int | None, softcap: float | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_BLOCK", block)
    lengths, length = [[70, 3], [40, 9, 24], [64]], 73
    layout, inputs = DocumentLayout.from_lengths(lengths, length), _inputs(3, length, torch.float64)
    seen = block_diagonal(lengths, length, window)
    inside = _inside(lengths, length).double()
    found = packed_attention(*inputs, layout, window, softcap)
    reference = _by_mask(*inputs, seen, softcap)
    assert found.isfinite().all()
    results = [(x * inside, *torch.autograd.grad((x * inside * slope_of(x)).sum(), inputs)) for x in (found, reference)]
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-12 * max(1.0, b.abs().max())


def slope_of(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)


def test_the_longest_document_is_known() -> None:
    assert DocumentLayout.from_lengths([[3, 5], [7]], 8).longest == 7
    assert DocumentLayout.from_lengths([[], []], 8).longest == 0
