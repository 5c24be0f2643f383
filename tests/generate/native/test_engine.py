from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from thinkling.errors import UserError
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.native import engine as native
from thinkling.generate.native.decode import prefill
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder

VOCAB = 61
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"architecture": "llama", "num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama, grouped queries, untied": {"architecture": "llama", "num_key_value_heads": 2, "tie_word_embeddings": False},
    "qwen2, biases": {"architecture": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3, one key/value head": {"architecture": "qwen3", "num_key_value_heads": 1, "tie_word_embeddings": True},
}
RAW = Sampling(temperature=1.0, top_p=1.0)


def decoder(seed: int = 0, **changes: Any) -> Decoder:
    """A random model with steep logits, so that greedy choices have clear margins."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = Decoder(ModelConfig(vocab_size=VOCAB, head_dim=12, **{**shape, **SHAPES["llama"], **changes}))
    generator = torch.Generator().manual_seed(seed)
    model.init_weights(generator)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.copy_(1 + 0.2 * torch.randn(weight.shape, generator=generator))
            elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
                weight.mul_(8)
            else:
                weight.mul_(2)
    return model


def requests(n: int, seed: int = 0, longest: int = 20, new_tokens: int = 24) -> list[Request]:
    """Prompts of 1 to `longest` tokens with 1 to `new_tokens` new ones."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    return [
        Request(tuple(number(0, VOCAB - 1) for _ in range(number(1, longest))), seed + i, number(1, new_tokens))
        for i in range(n)
    ]


def tokens_of(completions: list[Completion]) -> list[list[int]]:
    return [completion.tokens for completion in completions]


def transformers_model(model: Decoder) -> Any:
    import transformers

    config = model.config
    cls = getattr(transformers, config.family.class_name)
    kind = cls.config_class
    shape = config.model_dump(exclude={"architecture", "settings", "init", "rope_theta"})
    found = cls(kind(**shape, rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta})).eval()
    missing, unexpected = found.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config.tie_word_embeddings else [])
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_equals_transformers(shape: str) -> None:
    model = decoder(**SHAPES[shape])
    reference = transformers_model(model)
    asked = requests(12)
    found = NativeEngine(model, max_concurrent=5).generate(asked, Sampling(temperature=0.0))
    for request, completion in zip(asked, found, strict=True):
        prompt = torch.tensor([request.prompt])
        whole = reference.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert completion.tokens == whole[0, len(request.prompt) :].tolist()
        assert completion.finish_reason == "length"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_equal_those_of_a_full_forward(shape: str, temperature: float) -> None:
    model = decoder(**SHAPES[shape])
    asked = requests(9)
    for request, completion in zip(
        asked, NativeEngine(model, 4).generate(asked, Sampling(temperature, top_p=0.9)), strict=True
    ):
        ids = torch.tensor([[*request.prompt, *completion.tokens]])
        with torch.no_grad():
            logits = model.logits(model(ids))[0, len(request.prompt) - 1 : -1].double()
        expected = torch.log_softmax(logits / (temperature or 1.0), -1)
        picked = expected.gather(-1, torch.tensor(completion.tokens).unsqueeze(-1)).squeeze(-1)
        # fp32 logits of this model reach 40: 1e-5 × max |reference|.
        bound = 1e-5 * max(1.0, float(logits.abs().max()) / (temperature or 1.0))
        assert (picked - torch.tensor(completion.logprobs, dtype=torch.float64)).abs().max() <= bound


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0, 0.9), RAW], ids=["greedy", "nucleus", "raw"])
def test_neighbours_batch_size_and_order_do_not_matter(sampling: Sampling) -> None:
    model = decoder(num_key_value_heads=2)
    asked = requests(14)
    alone = [tokens_of(NativeEngine(model, 1).generate([request], sampling))[0] for request in asked]
    for batch_size in (3, 8, 100):
        assert tokens_of(NativeEngine(model, batch_size).generate(asked, sampling)) == alone
    assert tokens_of(NativeEngine(model, 5).generate(asked[::-1], sampling)) == alone[::-1]


def test_a_used_engine_gives_what_a_new_one_gives() -> None:
    model = decoder()
    engine = NativeEngine(model, 6)
    engine.generate(requests(10, seed=3, longest=40, new_tokens=60), RAW)
    asked = requests(10)
    assert engine.generate(asked, RAW) == NativeEngine(model, 6).generate(asked, RAW)
    engine.release()
    assert engine.generate(asked, RAW) == NativeEngine(model, 6).generate(asked, RAW)


def test_samples_of_one_prompt_share_its_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(weights: Any, cache: Any, tokens: torch.Tensor, rows: list[list[int]]) -> None:
        seen.append(len(tokens))
        prefill(weights, cache, tokens, rows)

    monkeypatch.setattr(native, "prefill", counting)
    model = decoder()
    prompts = [request.prompt for request in requests(3, longest=30)]
    asked = [Request(prompt, seed, 6 + seed % 5) for prompt, seed in itertools.product(prompts, range(8))]
    together = NativeEngine(model, 8).generate(asked, RAW)
    assert sum(seen) <= 2 * sum(len(prompt) > 1 for prompt in prompts)  # not 24
    alone = [NativeEngine(model, 1).generate([request], RAW)[0].tokens for request in asked]
    assert tokens_of(together) == alone
    assert len({tuple(tokens) for tokens in alone}) == len(alone)  # seeds differ


def test_samples_differ_by_seed_and_go_on_by_offset() -> None:
    """A continuation with the offset draws what the uninterrupted request draws."""
    engine = NativeEngine(decoder(), 4)
    whole = engine.generate([Request((5, 6), 11, 20)], RAW)[0]
    rest = engine.generate([Request((5, 6, *whole.tokens[:8]), 11, 12, rng_offset=8)], RAW)[0]
    assert rest.tokens == whole.tokens[8:]
    assert engine.generate([Request((5, 6), 12, 20)], RAW)[0].tokens != whole.tokens


def test_drawn_tokens_follow_the_models_distribution() -> None:
    model = decoder(hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    n = 6000
    found = NativeEngine(model, 512).generate([Request((1, 2, 3), seed, 1) for seed in range(n)], Sampling(2.0, 1.0))
    with torch.no_grad():
        expected = torch.softmax(model.logits(model(torch.tensor([[1, 2, 3]])))[0, -1].double() / 2, -1) * n
    counts = torch.bincount(torch.tensor([completion.tokens[0] for completion in found]), minlength=VOCAB)
    common = expected > 5
    chi = ((counts - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum())
    assert degrees > 5
    assert chi < degrees + 4 * (2 * degrees) ** 0.5


def test_stop_token_ends_a_sequence_and_stays_in_it() -> None:
    engine = NativeEngine(decoder(), 4)
    asked = requests(12, new_tokens=30)
    free = engine.generate(asked, RAW)
    stops = frozenset(range(0, VOCAB, 6))
    stopped = engine.generate(asked, Sampling(1.0, 1.0, stops))
    reasons = set()
    for request, whole, cut in zip(asked, free, stopped, strict=True):
        end = next((i + 1 for i, token in enumerate(whole.tokens) if token in stops), None)
        assert cut.tokens == whole.tokens[:end]
        assert cut.logprobs == pytest.approx(whole.logprobs[:end], abs=1e-4)
        assert cut.finish_reason == ("length" if end is None else "stop")
        assert len(cut.tokens) <= request.max_new_tokens
        reasons.add(cut.finish_reason)
    assert reasons == {"stop", "length"}


def test_a_stop_at_the_last_allowed_token_is_a_stop() -> None:
    engine = NativeEngine(decoder(), 1)
    last = engine.generate([Request((1,), 0, 5)], Sampling(0.0))[0].tokens[4]
    found = engine.generate([Request((1,), 0, 5)], Sampling(0.0, stop_ids=frozenset([last])))[0]
    assert found.finish_reason == "stop"


def test_weights_are_taken_over_at_an_update_only() -> None:
    model, other = decoder(), decoder(seed=1)
    engine = NativeEngine(model, 4)
    asked = requests(6)
    before = engine.generate(asked, RAW)
    model.load_state_dict(other.state_dict())
    model.set_rope_theta(5e4)
    other.set_rope_theta(5e4)
    assert engine.generate(asked, RAW) == before
    assert {version for completion in before for version in completion.versions} == {0}
    engine.update_weights(7)
    after = engine.generate(asked, RAW)
    assert tokens_of(after) == tokens_of(NativeEngine(other, 4).generate(asked, RAW)) != tokens_of(before)
    assert engine.version == 7
    assert all(completion.versions == [7] * len(completion.tokens) for completion in after)


def test_the_cache_grows_with_long_sequences() -> None:
    model = decoder()
    asked = [Request((1, 2), 3, 300), Request(tuple(range(1, 40)), 4, 50)]
    together = NativeEngine(model, 2).generate(asked, RAW)
    assert [len(completion.tokens) for completion in together] == [300, 50]
    with torch.no_grad():
        ids = torch.tensor([[1, 2, *together[0].tokens]])
        logp = torch.log_softmax(model.logits(model(ids))[0, 1:-1], -1)
    picked = logp.gather(-1, ids[0, 2:].unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(picked, torch.tensor(together[0].logprobs), atol=5e-4)


def test_bf16_runs_and_stays_near_fp32() -> None:
    model = decoder()
    asked = [Request((1, 2, 3), seed, 1) for seed in range(8)]
    half = NativeEngine(model, 8, dtype=torch.bfloat16).generate(asked, Sampling(0.0))
    full = NativeEngine(model, 8).generate(asked, Sampling(0.0))
    assert tokens_of(half) == tokens_of(full)
    assert half[0].logprobs[0] == pytest.approx(full[0].logprobs[0], abs=0.3)


def test_what_cannot_be_generated_is_said() -> None:
    model = decoder()
    engine = NativeEngine(model, 2)
    assert engine.generate([], RAW) == []
    with pytest.raises(UserError, match="vocabulary of 61"):
        engine.generate([Request((VOCAB,), 0, 1)], RAW)
    with pytest.raises(UserError, match="stop_ids"):
        engine.generate([Request((1,), 0, 1)], Sampling(stop_ids=frozenset([VOCAB])))
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    engine.update_weights(1)
    for sampling in (RAW, Sampling(0.0), Sampling(1.0, 0.5)):
        with pytest.raises(UserError, match="not finite"):
            engine.generate([Request((1,), 0, 3)], sampling)


@pytest.mark.parametrize(
    "bad", [{"prompt": ()}, {"max_new_tokens": 0}, {"seed": -1}, {"seed": 2**63}, {"rng_offset": -1}], ids=str
)
def test_a_request_is_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Request(**{"prompt": (1,), "seed": 0, "max_new_tokens": 1, **bad})


@pytest.mark.parametrize("bad", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}], ids=str)
def test_sampling_is_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Sampling(**bad)


def test_what_the_model_has_no_positions_for_is_refused() -> None:
    engine = NativeEngine(decoder(max_position_embeddings=16))
    assert len(engine.generate([Request((1,) * 10, 0, 6)], RAW)[0].tokens) == 6
    with pytest.raises(UserError, match=r"of 10 tokens plus max_new_tokens 7 .*max_position_embeddings 16; lower"):
        engine.generate([Request((1,) * 10, 0, 7)], RAW)
    continued = engine.generate([Request((1,) * 14, 0, 4, rng_offset=3)], RAW)[0]
    assert len(continued.tokens) == 4
