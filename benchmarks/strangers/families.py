"""Every built-in decoder family and rope variant against transformers, in fp32.

    python -m benchmarks.strangers.families

The cases are those of tests/model/families/peers.py: transformers creates and saves a tiny random model for each, every
second one in several files, and thinkling reads it.
strangers.families: largest deviation of our logits over transformers' largest logit, for whole rows and for rows packed
with several documents (which transformers sees one at a time), maximum over all cases and seeds.
strangers.families-text: prompts from Python's own documentation, 20 per case, continued greedily by our engine and by
transformers from our export, with the stop tokens that the export names; percentage of equal texts.
strangers.families-bytes: tensors of our export that differ in name, type, shape or bytes from those that were read.
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
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import modules
from benchmarks.machine import ROOT
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.model.attention import DocumentLayout
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, save_pretrained

VOCAB, ROW, PROMPTS, NEW_TOKENS = 512, 96, 20, 24
PACKED = [[40, 3, 30, 23], [96], [50, 30]]


def relative(found: Tensor, reference: Tensor) -> float:
    """Largest deviation over the largest absolute value."""
    return ((found - reference).abs().max() / reference.abs().max()).item()


@torch.no_grad()
def deviations(model: Decoder, peer: Any, seed: int) -> dict[str, float]:
    """Largest deviation of the logits of whole rows and of packed rows."""
    tokens = torch.randint(VOCAB, (len(PACKED), ROW), generator=torch.Generator().manual_seed(seed))
    packed = model.logits(model(tokens, DocumentLayout.from_lengths(PACKED, ROW)))
    documents = []
    for row, sizes in enumerate(PACKED):
        for number in range(len(sizes)):
            inside = slice(sum(sizes[:number]), sum(sizes[: number + 1]))
            documents.append((packed[row, inside], peer(input_ids=tokens[row : row + 1, inside]).logits[0]))
    found, reference = (torch.cat(parts) for parts in zip(*documents, strict=True))
    return {
        "whole": relative(model.logits(model(tokens)), peer(input_ids=tokens).logits),
        "packed": relative(found, reference),
    }


def changed_tensors(read: Path, written: Path) -> list[str]:
    """Names of the tensors that differ between two directories."""
    theirs: dict[str, Tensor] = {}
    for file in read.glob("*.safetensors"):
        theirs |= load_file(file)
    ours = load_file(written / "model.safetensors")

    def same(a: Tensor, b: Tensor) -> bool:
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.numpy().tobytes() == b.numpy().tobytes()

    return sorted(
        n for n in theirs.keys() | ours.keys() if n not in theirs or n not in ours or not same(theirs[n], ours[n])
    )


def texts(
    model: Decoder, exported: Path, tokenizer: Tokenizer, prompts: list[tuple[int, ...]]
) -> tuple[list[str], list[str]]:
    """Greedy continuations by our engine and by transformers from our export, prompt by prompt with its own stops."""
    requests = [Request(prompt, seed, NEW_TOKENS) for seed, prompt in enumerate(prompts)]
    sampling = Sampling(temperature=0.0, top_p=1.0, stop_ids=tokenizer.stop_ids)
    ours = [tokenizer.decode(c.tokens) for c in NativeEngine(model, max_concurrent=8).generate(requests, sampling)]
    peer: Any = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    peer_tokenizer = AutoTokenizer.from_pretrained(exported)
    theirs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        found = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        theirs.append(peer_tokenizer.decode(found[0, len(prompt) :], clean_up_tokenization_spaces=False))
    return ours, theirs


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="random models per case (strangers.families)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    peers = modules.load(ROOT / "tests" / "model" / "families" / "peers.py")

    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    tokenizer = train_bpe(topics, VOCAB)
    corpus = np.concatenate(tokenizer.encode_batch(topics))
    rng = np.random.default_rng(1)
    sizes = zip(rng.integers(0, len(corpus) - 64, PROMPTS), rng.integers(4, 48, PROMPTS), strict=True)
    prompts = [tuple(corpus[start : start + n].tolist()) for start, n in sizes]

    worst: list[float] = []
    cases: dict[str, dict[str, Any]] = {}
    changed: list[str] = []
    tensors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save(folder / "tokenizer")
        for number, case in enumerate(peers.CASES):
            found: dict[str, list[float]] = {"whole": [], "packed": []}
            for seed in range(options.seeds):
                theirs, ours = folder / f"{number}-{seed}", folder / f"{number}-{seed}-ours"
                peer = peers.peer_of(case, seed, vocab_size=VOCAB)
                peer.save_pretrained(theirs, max_shard_size="40KB" if (number + seed) % 2 else "50GB")
                model = load_pretrained(theirs)
                for kind, deviation in deviations(model, peer, seed).items():
                    found[kind].append(deviation)
                save_pretrained(model, ours, folder / "tokenizer", stop_ids=tokenizer.stop_ids)
                changed += [f"{case}: {tensor}" for tensor in changed_tensors(theirs, ours)]
                tensors += len(load_file(ours / "model.safetensors"))
            one, other = texts(load_pretrained(folder / f"{number}-0"), folder / f"{number}-0-ours", tokenizer, prompts)
            equal = sum(a == b for a, b in zip(one, other, strict=True))
            worst += [*found["whole"], *found["packed"]]
            cases[case] = {kind: max(values) for kind, values in found.items()} | {"texts": equal, "sample": one[0]}
            print(f"{case}: {cases[case]}", file=sys.stderr)
    measurements = {
        "strangers.families": {
            "value": max(worst),
            "low": min(worst),
            "high": max(worst),
            "n": len(worst),
            "runs": worst,
            "unit": "relative",
            "cases": {case: max(values["whole"], values["packed"]) for case, values in cases.items()},
        },
        "strangers.families-text": {
            "value": 100.0 * sum(v["texts"] for v in cases.values()) / (PROMPTS * len(cases)),
            "n": PROMPTS * len(cases),
            "runs": [{"case": case, "equal": v["texts"], "sample": v["sample"]} for case, v in cases.items()],
            "unit": "percent",
            "new_tokens": NEW_TOKENS,
        },
        "strangers.families-bytes": {"value": len(changed), "n": tensors, "runs": changed, "unit": "tensors"},
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
