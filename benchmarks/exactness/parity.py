"""Whether logits and greedy text equal those of transformers.

    python -m benchmarks.exactness.parity

exact.logits: tiny random Llama and Qwen3 models, tied and not, grouped-query attention, random norms, fp32; logits of
whole rows and of packed rows (transformers receives the block-diagonal mask and the positions). The value is the
largest deviation over the largest logit, maximum over all cases.
exact.greedy-text: 100 prompts from Python's own documentation, half continued by a Llama shape and half by a Qwen3
shape, both trained on 60 batches of it. The model is exported; the greedy `generate` of transformers, decoded by
transformers' tokenizer, is compared with our engine's text, decoded by ours.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkling.data.tokenizer import train_bpe
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.model.loss import chunked_cross_entropy

VOCAB, ROW, NEW_TOKENS, PROMPTS = 512, 128, 32, 100
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
PACKED = [[40, 3, 60, 25], [128], [77, 30]]


def decoder(architecture: str, tied: bool, seed: int) -> Decoder:
    """A random model whose norms are not all 1."""
    config = ModelConfig.model_validate(SHAPE | {"architecture": architecture, "tie_word_embeddings": tied})
    model = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    model.init_weights(generator)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return model


def exported(model: Decoder, directory: Path, tokenizer: Path | None = None) -> Any:
    """Our export, loaded by transformers."""
    save_pretrained(model, directory, tokenizer)
    return AutoModelForCausalLM.from_pretrained(directory).eval()


def block_diagonal(lengths: list[list[int]], sequence_length: int) -> tuple[Tensor, Tensor]:
    """The packing mask (B, 1, T, T) for transformers, and which tokens belong to a document (B, T)."""
    mask = torch.eye(sequence_length, dtype=torch.bool).repeat(len(lengths), 1, 1, 1)
    inside = torch.zeros(len(lengths), sequence_length, dtype=torch.bool)
    for row, sizes in enumerate(lengths):
        start = 0
        for n in sizes:
            mask[row, 0, start : start + n, start : start + n] = torch.ones(n, n, dtype=torch.bool).tril()
            start += n
        inside[row, :start] = True
    return mask, inside


@torch.no_grad()
def deviations(seed: int) -> dict[str, float]:
    """Relative deviation of the logits per case."""
    tokens = torch.randint(VOCAB, (len(PACKED), ROW), generator=torch.Generator().manual_seed(seed))
    layout = DocumentLayout.from_lengths(PACKED, ROW)
    mask, inside = block_diagonal(PACKED, ROW)
    found: dict[str, float] = {}
    for architecture in ("llama", "qwen3"):
        for tied in (True, False):
            model = decoder(architecture, tied, seed)
            with tempfile.TemporaryDirectory() as directory:
                peer = exported(model, Path(directory))
            cases = {
                "whole": (model.logits(model(tokens)), peer(input_ids=tokens).logits),
                "packed": (
                    model.logits(model(tokens, layout))[inside],
                    peer(input_ids=tokens, attention_mask=mask, position_ids=layout.positions_BT).logits[inside],
                ),
            }
            for name, (ours, theirs) in cases.items():
                key = f"{architecture}, {'tied' if tied else 'untied'}, {name}"
                found[key] = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    return found


def train(model: Decoder, ids: np.ndarray, steps: int) -> None:
    """Trains on a few batches, so that greedy text does not just repeat one token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        starts = rng.integers(0, len(ids) - ROW - 1, 8)
        rows = torch.from_numpy(np.stack([ids[s : s + ROW + 1] for s in starts]).astype(np.int64))
        states = model(rows[:, :-1])
        loss = chunked_cross_entropy(states.flatten(0, 1), model.output_weight, rows[:, 1:].flatten()) / (8 * ROW)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def equal_texts(directory: Path, steps: int) -> tuple[int, list[dict[str, Any]]]:
    """Number of prompts continued identically, and a count and a sample per shape."""
    texts = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    tokenizer = train_bpe(texts, VOCAB)
    tokenizer.save(directory / "tokenizer")
    ids = np.concatenate(tokenizer.encode_batch(texts))
    rng = np.random.default_rng(1)
    details: list[dict[str, Any]] = []
    for architecture, tied in (("llama", True), ("qwen3", False)):
        model = decoder(architecture, tied, seed=0)
        train(model, ids, steps)
        prompts = [
            tuple(ids[start : start + length].tolist())
            for start, length in zip(
                rng.integers(0, len(ids) - 64, PROMPTS // 2), rng.integers(4, 64, PROMPTS // 2), strict=True
            )
        ]
        requests = [Request(prompt, seed=i, max_new_tokens=NEW_TOKENS) for i, prompt in enumerate(prompts)]
        sampling = Sampling(temperature=0.0, top_p=1.0, stop_ids=tokenizer.stop_ids)
        ours = [tokenizer.decode(c.tokens) for c in NativeEngine(model, max_concurrent=16).generate(requests, sampling)]
        theirs = peer_texts(model, directory / architecture, directory / "tokenizer", prompts, sampling.stop_ids)
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        details.append({"architecture": architecture, "prompts": len(prompts), "equal": equal, "sample": ours[0]})
    return sum(d["equal"] for d in details), details


def peer_texts(
    model: Decoder, directory: Path, tokenizer: Path, prompts: list[tuple[int, ...]], stops: frozenset[int]
) -> list[str]:
    """Greedy continuations by transformers, one prompt at a time, so without padding."""
    peer, peer_tokenizer = exported(model, directory, tokenizer), AutoTokenizer.from_pretrained(directory)
    texts = []
    for prompt in prompts:
        found = peer.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=min(stops),
        )
        texts.append(peer_tokenizer.decode(found[0, len(prompt) :], clean_up_tokenization_spaces=False))
    return texts


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="random models per case (exact.logits)")
    parser.add_argument("--steps", type=int, default=60, help="training batches before exact.greedy-text")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"threads: {torch.get_num_threads()}", file=sys.stderr)

    runs = [deviations(seed) for seed in range(options.seeds)]
    worst = [max(run.values()) for run in runs]
    with tempfile.TemporaryDirectory() as directory:
        equal, details = equal_texts(Path(directory), options.steps)
    cases = {name: max(run[name] for run in runs) for name in runs[0]}
    measurements = {
        "exact.logits": {
            "value": max(worst),
            "low": min(worst),
            "high": max(worst),
            "n": sum(map(len, runs)),
            "runs": worst,
            "unit": "relative",
            "cases": cases,
        },
        "exact.greedy-text": {
            "value": equal,
            "n": PROMPTS,
            "runs": details,
            "unit": "prompts",
            "new_tokens": NEW_TOKENS,
        },
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
