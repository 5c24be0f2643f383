"""A GRPO step against TRL's GRPOTrainer: same weights, prompts, reward and threads, A B A B in one process.

    python -m benchmarks.speed.grpo_step

Llama of 4 layers and width 128, vocabulary 512 (0.8M parameters); 8 prompts of 16 tokens, 8 samples each of 64 tokens,
nothing stops early; beta 0, one update per batch, fp32, fused AdamW, clipping at 1, one thread. Value: geometric mean
of the paired ratios of seconds, ours / TRL's, with its 95% t-interval over pairs (of their logarithms).

Our step is what the rl stage runs: new weights into the engine, `NativeEngine.generate`, decoding, rewards,
`samples_of`, `loss_batches`, `Trainer.step`. TRL's time is from `on_step_begin` to `on_step_end`: generation (regular,
with a cache), rewards, loss, update. It has its best settings for a CPU: one micro-batch, no checkpointing, no logging,
no progress bar. Our steps run between TRL's.
"""

# pyright: reportMissingImports=false
# TRL is not among thinkling's extras; the script reports if it is missing.
from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from typing import Any

import torch

from benchmarks.paired import geometric_mean
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.stages.rl.grpo import GrpoObjective, Sample, advantages, informative, loss_batches
from thinkling.train.config import OptimizerConfig
from thinkling.train.trainer import Trainer

PROMPTS, GROUP, PROMPT, NEW = 8, 8, 16, 64
VOCAB, LR = 512, 1e-4
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "tie_word_embeddings": True,
}  # fmt: skip


def reward(text: str) -> float:
    """Fraction of a text's characters that are vowels: real-valued, so that every group has variance."""
    return sum(c in "aeiou" for c in text) / max(1, len(text))


class Ours:
    """A step as in the rl stage, with different prompts every step."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, prompts: list[list[int]]) -> None:
        self.model, self.tokenizer, self.prompts = model, tokenizer, prompts
        self.engine = NativeEngine(model, PROMPTS * GROUP)
        self.objective = GrpoObjective(torch.device("cpu"), 1.0, None)
        optimizer = OptimizerConfig(name="adamw", lr=LR, betas=(0.9, 0.999), weight_decay=0.0, clip_norm=1.0)
        self.trainer = Trainer(model, optimizer, self.objective)
        self.step = 0

    def __call__(self) -> None:
        self.engine.update_weights(self.step)
        start = self.step * PROMPTS
        asked = [self.prompts[i % len(self.prompts)] for i in range(start, start + PROMPTS) for _ in range(GROUP)]
        requests = [Request(tuple(p), self.step * len(asked) + i, NEW) for i, p in enumerate(asked)]
        completions = self.engine.generate(requests, Sampling(temperature=1.0, top_p=1.0))
        assert all(len(c.tokens) == NEW for c in completions)
        rewards = [reward(self.tokenizer.decode(c.tokens)) for c in completions]
        samples: list[Sample] = []
        for i in range(0, len(asked), GROUP):
            group = slice(i, i + GROUP)
            assert informative(rewards[group])
            found = advantages(rewards[group], "mean_std")
            for p, c, a in zip(asked[group], completions[group], found, strict=True):
                # In fact truncated, but by default TRL trains on such samples too, and so do we here.
                samples.append(Sample(p, c.tokens, c.logprobs, c.forced, a, truncated=False))
        self.objective.reset()
        self.trainer.step(loss_batches(samples, "tokens", NEW, 1 << 30), LR)
        assert self.objective.max_mismatch < 1e-3
        self.step += 1


def trl_steps(theirs: Any, tokenizer_dir: str, prompts: list[list[int]], between: Any, steps: int) -> list[float]:
    """Seconds of TRL's steps; `between` runs after each step, untimed."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    seconds: list[float] = []

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)
            between()

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    texts = [tokenizer.decode(p) for p in prompts]
    assert all(len(tokenizer(t)["input_ids"]) == PROMPT for t in texts)
    tokenizer.pad_token_id = 0
    tokenizer.add_special_tokens({"eos_token": "<never>"})  # an id beyond the model's: nothing stops early
    assert tokenizer.eos_token_id >= VOCAB
    theirs.generation_config.eos_token_id = tokenizer.eos_token_id
    lengths: list[int] = []

    def vowels(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        lengths.extend(map(len, completion_ids))
        return [reward(text) for text in completions]

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_steps=steps,
            max_completion_length=NEW, beta=0.0, temperature=1.0, top_p=1.0, top_k=0, loss_type="dapo",
            learning_rate=LR, lr_scheduler_type="constant", max_grad_norm=1.0, weight_decay=0.0, use_cpu=True,
            bf16=False, gradient_checkpointing=False, report_to=[], logging_strategy="no", save_strategy="no",
            disable_tqdm=True, dataloader_num_workers=0, optim="adamw_torch_fused", shuffle_dataset=False,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=theirs, reward_funcs=vowels, args=config, train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=tokenizer, callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    assert len(lengths) == steps * PROMPTS * GROUP
    assert set(lengths) == {NEW}
    return seconds


def compare(pairs: int, warm_up: int) -> dict[str, Any]:
    """Alternates TRL's step and ours; the first `warm_up` pairs are not counted."""
    from transformers import LlamaConfig, LlamaForCausalLM

    decoder = Decoder(ModelConfig(**SHAPE))
    decoder.init_weights(torch.Generator().manual_seed(0))
    theirs = LlamaForCausalLM(LlamaConfig(**SHAPE, rms_norm_eps=1e-5, max_position_embeddings=4096))
    missing, unexpected = theirs.load_state_dict(decoder.state_dict(), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert not unexpected
    with tempfile.TemporaryDirectory() as folder:
        from pydoc_data.topics import topics

        tokenizer = train_bpe([text for _, text in sorted(topics.items())], VOCAB)
        tokenizer.save(folder)
        ids = tokenizer.encode("".join(text for _, text in sorted(topics.items()))[:200_000]).tolist()
        prompts = _stable_prompts(tokenizer, ids, (pairs + warm_up) * PROMPTS)
        ours, times = Ours(decoder, tokenizer, prompts), []

        def timed() -> None:
            began = time.perf_counter()
            ours()
            times.append(time.perf_counter() - began)

        peer = trl_steps(theirs, folder, prompts, timed, pairs + warm_up)
    ratios = [a / b for a, b in zip(times, peer, strict=True)][warm_up:]
    return {
        **geometric_mean(ratios),
        "n": pairs,
        "runs": [round(ratio, 4) for ratio in ratios],
        "unit": "ratio",
        "threads": torch.get_num_threads(),
        "seconds": round(statistics.median(times[warm_up:]), 4),
        "peer_seconds": round(statistics.median(peer[warm_up:]), 4),
    }


def _stable_prompts(tokenizer: Tokenizer, ids: list[int], count: int) -> list[list[int]]:
    """Texts that decode and re-encode to the same PROMPT tokens, because TRL takes texts."""
    found = []
    for start in range(0, len(ids) - PROMPT, PROMPT):
        piece = ids[start : start + PROMPT]
        if tokenizer.encode(tokenizer.decode(piece)).tolist() == piece:
            found.append(piece)
    assert len(found) >= count
    return found[:count]


def main() -> None:
    """Prints the measurement as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10, help="counted pairs, at least 2")
    parser.add_argument("--warm-up", type=int, default=2, help="uncounted pairs before them")
    options = parser.parse_args()
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("datasets") is None:
        sys.exit("this compares with TRL, which no extra of thinkling installs: pip install 'trl==1.16.0' datasets")
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    measured = compare(options.pairs, options.warm_up)
    print(f"speed.grpo-step-cpu: {measured}", flush=True)
    print(json.dumps({"measurements": {"speed.grpo-step-cpu": measured}}))


if __name__ == "__main__":
    main()
