import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.generate.native.sampler import draw, nucleus_floor, uniforms

DRAWS = 20_000


def _splitmix64(seed: int, counter: int) -> float:
    """The published algorithm in Python's unbounded integers."""
    mask = 2**64 - 1

    def scramble(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    state = (scramble(seed) + (counter + 1) * 0x9E3779B97F4A7C15) & mask
    return (scramble(state) >> 12) / 2**52


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_uniforms_are_splitmix64(seed: int, counter: int) -> None:
    found = uniforms(torch.tensor([seed]), torch.tensor([counter]))
    assert found.item() == _splitmix64(seed, counter)
    assert 0 <= found.item() < 1


@pytest.mark.parametrize("along", ["seeds", "counters"])
def test_uniforms_are_uniform_and_uncorrelated(along: str) -> None:
    steps, still = torch.arange(100_000), torch.zeros(100_000, dtype=torch.int64)
    u = uniforms(steps, still) if along == "seeds" else uniforms(still, steps)
    counts = torch.histc(u.float(), bins=100, min=0, max=1).numpy()
    assert _chi_square(counts, np.full(100, 1000.0)) < 3.0
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.015


def _chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square in standard deviations above its mean (Wilson and Hilferty)."""
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi, degrees = ((counts - expected)[kept] ** 2 / expected[kept]).sum(), kept.sum() - 1
    if degrees == 0:
        return 0.0
    return float(((chi / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees)))


def _nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """The definition: likeliest tokens until their mass reaches top_p, renormalised."""
    kept, mass = np.zeros_like(probabilities), 0.0
    for token in np.argsort(-probabilities, kind="stable"):
        kept[token] = probabilities[token]
        mass += probabilities[token]
        if mass >= top_p:
            break
    return kept / kept.sum()


@pytest.mark.parametrize("vocab", [7, 40, 300])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.9), (0.6, 0.95), (1.5, 0.3)])
def test_draws_follow_softmax_and_nucleus(vocab: int, temperature: float, top_p: float) -> None:
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(vocab))
    u = uniforms(torch.full((DRAWS,), 5), torch.arange(DRAWS))
    tokens, logprobs = draw(logits.expand(DRAWS, -1), u, temperature, top_p)
    full = torch.softmax(logits.double() / temperature, -1).numpy()
    expected = _nucleus(full, top_p) * DRAWS
    counts = np.bincount(tokens.numpy(), minlength=vocab)
    assert _chi_square(counts, expected) < 3.0
    # Log-probabilities are those before the nucleus is cut out.
    assert np.allclose(logprobs.numpy(), np.log(full)[tokens.numpy()], atol=1e-5)


@given(
    st.lists(st.lists(st.integers(-12, 12), min_size=100, max_size=100), min_size=1, max_size=4),
    st.sampled_from([0.05, 0.5, 0.9, 0.99, 1 - 1e-9]),
)
@settings(deadline=None)
def test_nucleus_is_the_smallest_that_reaches_p(rows: list[list[int]], top_p: float) -> None:
    """Whole-number logits give many ties; those at the edge are all kept."""
    probabilities = torch.softmax(torch.tensor(rows, dtype=torch.float32) / 4, -1)
    for row, floor in zip(probabilities.double(), nucleus_floor(probabilities, top_p).double(), strict=True):
        assert floor in row
        assert row[row >= floor].sum() >= top_p - 1e-6
        assert row[row > floor].sum() < top_p


def test_a_row_is_drawn_alike_alone_and_among_others() -> None:
    logits = 2 * torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    u = uniforms(torch.arange(64), torch.zeros(64, dtype=torch.int64))
    together = draw(logits, u, 0.8, 0.9)
    alone = [draw(logits[i : i + 1], u[i : i + 1], 0.8, 0.9) for i in range(64)]
    assert together[0].tolist() == [tokens.item() for tokens, _ in alone]


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = draw(logits, torch.rand(50, dtype=torch.float64), 0.0, 0.5)
    assert torch.equal(tokens, logits.argmax(-1))
    assert torch.allclose(logprobs, logits.log_softmax(-1).amax(-1), atol=1e-6)


def test_extreme_numbers_stay_inside_the_support() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(2, -1)
    tokens, _ = draw(logits, torch.tensor([0.0, 1 - 2.0**-52], dtype=torch.float64), 1.0, 1.0)
    assert tokens.tolist() == [1, 3]


def test_bf16_logits_are_drawn_in_fp32() -> None:
    logits = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    u = torch.full((4,), 0.4, dtype=torch.float64)
    assert torch.equal(draw(logits, u, 1.0, 0.9)[1], draw(logits.float(), u, 1.0, 0.9)[1])
