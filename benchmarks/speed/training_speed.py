"""Our training loop against Hugging Face's Trainer: same weights, threads and tokens, A B A B in one process.

    python -m benchmarks.speed.training_speed

speed.train-cpu-0.3m, speed.train-cpu-3m: steps of 8 rows of 128 tokens, 0.3M and 3M parameters without embeddings.
speed.train-cpu-0.3m-ragged: documents of 8 to 128 tokens (log-uniform) at 0.3M; ours packs them whole into 8 rows of
128 and isolates them, while Trainer takes 8 per step, in the same order, and pads to the longest of the 8. Padding does
not count as tokens. Value: geometric mean of the paired ratios of tokens/s, with its 95% t-interval over pairs (of
their logarithms).

Both: float32, eager, fused AdamW, clipping at 1, constant learning rate, batches built in the loop from tokenised
documents in memory; no logging, saving or evaluation during the measured time, which excludes set-up and the first
steps. Ours is what the stages run: MixtureLoader, `next_token_objective`, `fit`. The peer has its best settings: SDPA,
no KV cache, no worker processes (slower here), no NaN filter, no progress bar, its own documented padding collator.
With ragged documents it gets no attention mask: right padding needs none under a causal mask, and SDPA is faster
without. With ragged documents Trainer is also measured with `group_by_length` (less padding, but a different document
order).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from benchmarks.paired import geometric_mean
from thinkling.data.mixture import MixtureLoader, MixturePhase
from thinkling.data.shards import MemorySource
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.stages.training.objective import next_token_objective
from thinkling.train import trainer as ours
from thinkling.train.callback import Callback, StepMetrics
from thinkling.train.checkpoint import Checkpoints
from thinkling.train.config import OptimizerConfig

ROWS, LENGTH, VOCAB = 8, 128, 512
WARM_UP = 3
"""Steps at the start of every block that are not measured."""
SIZES: dict[str, dict[str, Any]] = {
    "0.3M": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 3},
    "3M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4},
}
RAGGED = "speed.train-cpu-0.3m-ragged"
CLAIMS = {"speed.train-cpu-0.3m": "0.3M", "speed.train-cpu-3m": "3M", RAGGED: "0.3M"}
OPTIMIZER = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def models(size: str) -> tuple[Decoder, LlamaForCausalLM]:
    """A random decoder, and transformers' Llama with the same weights."""
    heads = SIZES[size]["num_attention_heads"]
    shape: dict[str, Any] = {
        **SIZES[size],
        "vocab_size": VOCAB,
        "num_key_value_heads": heads,
        "head_dim": SIZES[size]["hidden_size"] // heads,
        "max_position_embeddings": LENGTH,
    }
    decoder = Decoder(ModelConfig.model_validate(shape))
    decoder.init_weights(torch.Generator().manual_seed(0))
    shape |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = LlamaConfig(**shape, rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False)
    llama = LlamaForCausalLM(config)
    missing, unexpected = llama.load_state_dict(decoder.state_dict(), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert not unexpected
    sample = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(decoder.logits(decoder(sample)), llama(input_ids=sample).logits, atol=1e-4)
    return decoder, llama


class Ours:
    """Blocks of steps of the training loop that stages use."""

    def __init__(self, model: Decoder, documents: Sequence[np.ndarray], steps: int) -> None:
        self.trainer = ours.Trainer(model, OptimizerConfig(**OPTIMIZER), next_token_objective(torch.device("cpu")))
        self.documents, self.steps = documents, steps

    def run(self) -> tuple[int, float]:
        """(Tokens besides padding, seconds) of the block's measured steps."""
        total = WARM_UP + self.steps
        phase = MixturePhase(total * ROWS, LENGTH, {"documents": 1.0})
        loader = MixtureLoader([phase], {"documents": MemorySource("documents", self.documents)}, 0, ROWS)
        times: list[float] = []
        tokens: list[int] = []

        def batches(step: int) -> Sequence[Any]:
            micro_batches = loader.batches(step)
            tokens.append(sum(sum(row) for batch in micro_batches for row in batch.lengths))
            return micro_batches

        class StepClock(Callback):
            def on_step(self, step: int, metrics: StepMetrics, lr: float) -> None:
                times.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as directory:
            checkpoints = Checkpoints(Path(directory), every_steps=total)  # written after the last step's time
            ours.fit(self.trainer, batches, lambda step: OPTIMIZER["lr"], total, checkpoints, [StepClock()])
        return sum(tokens[WARM_UP:]), times[-1] - times[WARM_UP - 1]


class Clock(TrainerCallback):
    """Times at which Trainer's steps ended, taken at the same point as ours."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


class Peer:
    """Blocks of steps of Hugging Face's Trainer, `ROWS` documents per step."""

    def __init__(
        self, model: nn.Module, documents: Sequence[np.ndarray], steps: int, sampling: str = "sequential"
    ) -> None:
        self.model, self.steps, self.sampling = model, steps, sampling
        self.dataset = [{"input_ids": torch.from_numpy(ids), "length": len(ids)} for ids in documents]

    def run(self) -> tuple[int, float]:
        """(Tokens besides padding, seconds) of the block's measured steps."""
        tokens: list[int] = []

        def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            rows = [feature["input_ids"] for feature in features]
            tokens.append(sum(map(len, rows)))
            pad = nn.utils.rnn.pad_sequence
            return {
                "input_ids": pad(rows, batch_first=True, padding_value=0),
                "labels": pad(rows, batch_first=True, padding_value=-100),
            }

        with tempfile.TemporaryDirectory() as directory:
            arguments = TrainingArguments(
                output_dir=directory,
                max_steps=WARM_UP + self.steps,
                per_device_train_batch_size=ROWS,
                train_sampling_strategy=self.sampling,
                optim="adamw_torch_fused",
                learning_rate=OPTIMIZER["lr"],
                adam_beta1=OPTIMIZER["betas"][0],
                adam_beta2=OPTIMIZER["betas"][1],
                adam_epsilon=OPTIMIZER["eps"],
                weight_decay=OPTIMIZER["weight_decay"],
                lr_scheduler_type="constant",
                max_grad_norm=1.0,
                use_cpu=True,
                dataloader_num_workers=0,
                dataloader_pin_memory=False,
                remove_unused_columns=False,
                logging_strategy="no",
                logging_nan_inf_filter=False,
                save_strategy="no",
                eval_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=0,
            )
            clock = Clock()
            trainer = Trainer(
                model=self.model,
                args=arguments,
                data_collator=collate,
                train_dataset=self.dataset,  # pyright: ignore[reportArgumentType]
                callbacks=[clock],
            )
            trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
            trainer.train()
        assert len(clock.times) == WARM_UP + self.steps
        # The loader may run one batch ahead of the steps.
        counted = tokens[WARM_UP : WARM_UP + self.steps]
        return sum(counted), clock.times[-1] - clock.times[WARM_UP - 1]


Block = Callable[[], tuple[int, float]]


def compare(blocks: dict[str, Block], pairs: int) -> dict[str, dict[str, Any]]:
    """Each peer's measurement against "ours": a warm-up of each, then all of them alternating, `pairs` times."""
    for block in blocks.values():
        block()
    rates: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(pairs):
        for name, block in blocks.items():
            tokens, seconds = block()
            rates[name].append(tokens / seconds)
    found = {}
    for name in blocks:
        if name == "ours":
            continue
        ratios = [a / b for a, b in zip(rates["ours"], rates[name], strict=True)]
        found[name] = {
            **geometric_mean(ratios),
            "n": pairs,
            "runs": [round(ratio, 4) for ratio in ratios],
            "unit": "ratio",
            "threads": torch.get_num_threads(),
            "tokens_per_second": round(statistics.median(rates["ours"])),
            "peer_tokens_per_second": round(statistics.median(rates[name])),
        }
    return found


def fixed_rows(n: int) -> list[np.ndarray]:
    """n documents that each fill a row, int64."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, VOCAB, (n, LENGTH)))


def ragged_documents(n: int) -> list[np.ndarray]:
    """n documents of 8 to 128 tokens, lengths log-uniform, int64."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(math.log(8), math.log(LENGTH), n)).round().astype(int)
    return [rng.integers(0, VOCAB, length) for length in lengths]


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of blocks per claim, at least 2")
    parser.add_argument("--steps", type=int, default=40, help="measured steps per block at 0.3M; a fifth of it at 3M")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=list(CLAIMS), help="one claim")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()

    measurements: dict[str, dict[str, Any]] = {}
    for name, size in CLAIMS.items():
        if options.only not in (None, name):
            continue
        decoder, llama = models(size)
        steps = options.steps if size == "0.3M" else max(2, options.steps // 5)
        documents = ragged_documents(4096) if name == RAGGED else fixed_rows(4096)
        blocks: dict[str, Block] = {
            "ours": Ours(decoder, documents, steps).run,
            "peer": Peer(llama, documents, steps).run,
        }
        if name == RAGGED:
            blocks["grouped"] = Peer(llama, documents, steps, "group_by_length").run
        found = compare(blocks, options.pairs)
        measurements[name] = found["peer"]
        if "grouped" in found:
            measurements[name]["against_group_by_length"] = found["grouped"]
        print(f"{name}: {measurements[name]}", flush=True)
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
