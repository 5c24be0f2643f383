"""The native engine against transformers `generate`: same weights and threads, A B A B in one process.

    python -m benchmarks.speed.sampling

speed.sample-cpu-3m: 128 prompts of 16 tokens, 64 new tokens each, nothing stops early.
speed.sample-cpu-3m-ragged: 1,024 requests with 16 to 160 new tokens (log-uniform), 128 at once; the engine refills
finished rows, `generate` takes batches of 128 in the order of the requests and runs each until its longest is done.
Only requested tokens count. Value: geometric mean of the paired ratios of tokens/s, with its 95% t-interval over pairs
(of their logarithms).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from benchmarks.paired import geometric_mean
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
BATCH, PROMPT = 128, 16


def models(seed: int) -> tuple[Decoder, Any]:
    """A random decoder and transformers' Llama with the same weights."""
    ours = Decoder(ModelConfig(**SHAPE))
    ours.init_weights(torch.Generator().manual_seed(seed))
    theirs = LlamaForCausalLM(LlamaConfig(**SHAPE, rms_norm_eps=1e-5, max_position_embeddings=4096)).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert not unexpected
    return ours, theirs


def peer(model: Any, prompts: torch.Tensor, new_tokens: Sequence[int]) -> None:
    """`generate` in batches of BATCH, each until its longest request is done."""
    for start in range(0, len(prompts), BATCH):
        batch, longest = prompts[start : start + BATCH], max(new_tokens[start : start + BATCH])
        config = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=longest, pad_token_id=0
        )
        with torch.inference_mode():
            found = model.generate(batch, attention_mask=torch.ones_like(batch), generation_config=config)
        assert found.shape == (len(batch), PROMPT + longest)


def native(engine: NativeEngine, prompts: torch.Tensor, new_tokens: Sequence[int]) -> None:
    """The same requests through our engine."""
    pairs = zip(prompts.tolist(), new_tokens, strict=True)
    requests = [Request(tuple(prompt), seed, n) for seed, (prompt, n) in enumerate(pairs)]
    completions = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0))
    assert [len(c.tokens) for c in completions] == list(new_tokens)


def seconds(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(ours: Callable[[], None], theirs: Callable[[], None], tokens: int, pairs: int) -> dict[str, Any]:
    """Warms up, then alternates ours and theirs, `pairs` times."""
    ours()
    theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    ratios = [theirs / ours for ours, theirs in times]
    return {
        **geometric_mean(ratios),
        "n": pairs,
        "runs": [round(ratio, 4) for ratio in ratios],
        "unit": "ratio",
        "threads": torch.get_num_threads(),
        "tokens_per_second": round(tokens / statistics.median(ours for ours, _ in times)),
        "peer_tokens_per_second": round(tokens / statistics.median(theirs for _, theirs in times)),
    }


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of speed.sample-cpu-3m, at least 2")
    parser.add_argument("--long-pairs", type=int, default=3, help="pairs of speed.sample-cpu-3m-ragged, at least 2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    decoder, reference = models(seed=0)
    engine = NativeEngine(decoder, max_concurrent=BATCH)
    rng = np.random.default_rng(0)
    prompts = torch.from_numpy(rng.integers(0, SHAPE["vocab_size"], size=(1024, PROMPT)))
    ragged = np.exp(rng.uniform(math.log(16), math.log(160), size=len(prompts))).round().astype(int).tolist()
    measurements = {}
    for name, count, new_tokens, pairs in (
        ("speed.sample-cpu-3m", BATCH, [64] * BATCH, options.pairs),
        ("speed.sample-cpu-3m-ragged", len(prompts), ragged, options.long_pairs),
    ):
        measurements[name] = compare(
            lambda count=count, new_tokens=new_tokens: native(engine, prompts[:count], new_tokens),
            lambda count=count, new_tokens=new_tokens: peer(reference, prompts[:count], new_tokens),
            sum(new_tokens),
            pairs,
        )
        print(f"{name}: {measurements[name]}", flush=True)
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
