"""Whether the weights of a bf16 directory move at a learning rate of 1e-6: 100 sft steps against a pure fp32 run.

    python -m benchmarks.strangers.moves

A small model learns the format of puzzle conversations (sft, fp32), and its weights are rounded to bf16. From there sft
runs 100 steps at lr 1e-6 in each precision that the field `precision` offers for bf16 directories. The reference starts
from the same weights in an fp32 directory. Each seed has different initial weights, conversations and order.

The displacement d of all weights is projected on that of the reference, r: d·r / r·r is 1 if the model moves as far in
that direction as the reference, and 0 if it does not move.
strangers.moves-fp32, strangers.moves-bf16: distance of the mean ratio over seeds from 1, for the worst precision with
fp32 weights, and for bf16 weights with stochastic rounding.
strangers.moves-loss: loss of the exported weights on the validation split, computed in fp32; largest relative deviation
from that of the reference's weights.
Also stored: the ratio of a run that rounds to nearest, which stochastic rounding is meant to replace; and the deviation
of the loss that the stage itself measures at its end, in its compute dtype. bf16 copies of fp32 weights that have moved
by less than half a bf16 step do not change, so that loss lags behind the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import pydoc_data.topics
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from thinkling.data.artifact import Artifact
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import read_conversations
from thinkling.data.packing import lay_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.generate.loaded import LoadedModel
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.puzzles.sources import PuzzleConversationsSource, PuzzlesSource
from thinkling.sources.base import Source, bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft import stage
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.objective import mean_loss
from thinkling.train import precision

LR, VOCAB, LENGTH, ROWS = 1e-6, 512, 128, 4
SHAPE: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": LENGTH, "tie_word_embeddings": True,
}  # fmt: skip
ARMS: dict[str, dict[str, str]] = {
    "fp32 weights": {},
    "fp32 weights, bf16 computation": {"compute": "bfloat16"},
    "bf16 weights": {"weights": "bfloat16"},
    "bf16 weights, bf16 computation": {"compute": "bfloat16", "weights": "bfloat16"},
}
FP32, BF16 = list(ARMS)[:2], list(ARMS)[2:]
NEAREST = "bf16 weights, rounded to the nearest"


def sources() -> dict[str, Source]:
    families = {"sort": {"min_length": 2, "max_length": 4}, "calc": {"min_digits": 2, "max_digits": 2}}
    return bound(
        {
            "puzzles": PuzzlesSource.model_validate({"type": "puzzles", "families": families}),
            "chats": PuzzleConversationsSource.model_validate({"type": "puzzle_conversations", "puzzles": "puzzles"}),
        }
    )


def first_model(folder: Path, seed: int) -> Path:
    """A model with random weights and an English tokenizer."""
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    tokenizer = train_bpe(topics, VOCAB, chat_template=OURS.source)
    tokenizer.save(folder / "tokenizer")
    model = Decoder(ModelConfig.model_validate(SHAPE | {"vocab_size": tokenizer.vocab_size}))
    model.init_weights(torch.Generator().manual_seed(seed))
    save_pretrained(model, folder / "first", folder / "tokenizer")
    return folder / "first"


def sft(directory: Path, start: Path, seed: int, steps: int, lr: float, chosen: dict[str, str]) -> Path:
    """Trains for the given number of steps; returns the stage's directory, with the model in `model/`."""
    config = SftConfig.model_validate(
        {
            "kind": "sft", "inputs": {"model": "start"}, "examples": {"source": "chats", "n_examples": 8 * steps},
            "epochs": 4, "max_steps": steps, "sequence_length": LENGTH, "batch_size": ROWS, "micro_batch_size": 2,
            "optimizer": {"lr": lr}, "validation_fraction": 0.1, "evaluate_every": steps, "checkpoint_every": steps,
            "precision": chosen,
        }
    )  # fmt: skip
    directory.mkdir(parents=True)
    stage.run(config, StageContext("sft", directory, {"model": Artifact(start, {})}, seed, sources=sources()))
    return directory


def weights_of(directory: Path) -> Tensor:
    """All weights of a model directory, float64."""
    return torch.cat([x.flatten().double() for _, x in sorted(load_file(directory / "model.safetensors").items())])


def loss_of(directory: Path) -> float:
    """Loss of the exported weights in fp32 on the validation split."""
    loaded = LoadedModel.load(directory / "model", torch.device("cpu"), torch.float32)
    encoded = [loaded.renderer.encoded(c.messages) for c in read_conversations(directory / "validation.parquet")]
    batches = [lay_conversations([[(chat.ids, chat.loss)]], LENGTH, loaded.tokenizer.pad_id) for chat in encoded]
    return mean_loss(loaded.decoder, batches, loaded.device)


def measured_loss(directory: Path) -> float:
    """The validation loss that the stage measured after the last step."""
    return json.loads((directory / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()[-1])["loss"]


@contextmanager
def to_nearest() -> Iterator[None]:
    """Rounds to nearest instead of stochastically within the block."""
    stochastic = precision.round_stochastically
    precision.round_stochastically = lambda x, noise: x.to(torch.bfloat16)
    try:
        yield
    finally:
        precision.round_stochastically = stochastic


def measure(folder: Path, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """For one seed, per precision: `ratio` of displacements, and relative deviation of the loss (`loss`) and of the
    loss that the stage measured (`measured_loss`)."""
    learned = sft(folder / "learned", first_model(folder, seed), seed, 2 * steps, 2e-3, {}) / "model"
    model = load_pretrained(learned).bfloat16()
    save_pretrained(model, folder / "bf16", folder / "tokenizer")
    save_pretrained(model.float(), folder / "fp32", folder / "tokenizer")
    start = weights_of(folder / "fp32")
    assert torch.equal(start, weights_of(folder / "bf16"))

    reference = sft(folder / "reference", folder / "fp32", seed, steps, LR, {})
    moved, loss = weights_of(reference / "model") - start, loss_of(reference)
    assert math.isclose(loss, measured_loss(reference), rel_tol=1e-5)
    found: dict[str, dict[str, float]] = {}

    def add(name: str, chosen: dict[str, str]) -> None:
        run = sft(folder / name, folder / "bf16", seed, steps, LR, chosen)
        ratio = (weights_of(run / "model") - start) @ moved / (moved @ moved)
        found[name] = {
            "ratio": float(ratio),
            "loss": abs(loss_of(run) / loss - 1),
            "measured_loss": abs(measured_loss(run) / loss - 1),
        }

    for name, chosen in ARMS.items():
        add(name, chosen)
    with to_nearest():
        add(NEAREST, {"weights": "bfloat16"})
    print(f"seed {seed}: loss {loss:.4f}, {found}", file=sys.stderr, flush=True)
    return found


def distance(runs: Sequence[dict[str, dict[str, float]]], arms: Sequence[str]) -> dict[str, Any]:
    """The measurement of a claim on ratios, for the arm with the mean farthest from 1."""
    ratios = {arm: [run[arm]["ratio"] for run in runs] for arm in arms}
    means = {arm: statistics.fmean(values) for arm, values in ratios.items()}
    worst = max(arms, key=lambda arm: abs(means[arm] - 1))
    distances = [abs(ratio - 1) for ratio in ratios[worst]]
    return {
        "value": abs(means[worst] - 1),
        "low": min(distances),
        "high": max(distances),
        "n": len(runs),
        "runs": [{"arm": arm, "mean": means[arm], "ratios": ratios[arm]} for arm in arms],
        "unit": "ratio",
    }


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        runs = [measure(Path(name) / str(seed), seed, options.steps) for seed in range(options.seeds)]
    losses = {arm: [run[arm]["loss"] for run in runs] for arm in ARMS}
    deviations = [x for values in losses.values() for x in values]
    measurements = {
        "strangers.moves-fp32": distance(runs, FP32),
        "strangers.moves-bf16": distance(runs, BF16) | {"to_nearest": [run[NEAREST]["ratio"] for run in runs]},
        "strangers.moves-loss": {
            "value": max(deviations),
            "low": min(deviations),
            "high": max(deviations),
            "n": len(deviations),
            "runs": [
                {"arm": arm, "deviations": values, "as_measured": [run[arm]["measured_loss"] for run in runs]}
                for arm, values in losses.items()
            ],
            "unit": "relative",
        },
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
