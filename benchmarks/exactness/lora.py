"""Whether peft computes the same logits from exported adapters.

    python -m benchmarks.exactness.lora

lora.peft: tiny random models of six families, with adapters on all linear layers and on some, trained for 20 steps on
random tokens in fp32. The model without adapters is loaded by transformers, and `adapter/` by peft. The value is the
largest deviation of peft's logits from ours over the largest logit, maximum over families, targets and seeds; the
merged model, loaded by transformers, is compared as well. Needs the packages transformers and peft.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.exactness.parity import SHAPE, VOCAB, decoder
from thinkling.model.config import LoraConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.model.lora import add_adapters, merged_decoder, save_adapters
from thinkling.model.loss import chunked_cross_entropy
from thinkling.train.config import OptimizerConfig
from thinkling.train.trainer import Trainer

FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "olmo2", "gemma2")
TARGETS = (None, ["o_proj", "down_proj"])
STEPS, ROW = 20, 64


def objective(model: Any, tokens: Tensor) -> tuple[Tensor, int, dict[str, float]]:
    labels = tokens[:, 1:].flatten()
    return chunked_cross_entropy(model(tokens[:, :-1]).flatten(0, 1), model.output_weight, labels), len(labels), {}


def trained(family: str, targets: list[str] | None, seed: int) -> Decoder:
    model = decoder(family, True, seed)
    add_adapters(model, LoraConfig.model_validate({"rank": 8, "alpha": 16, "targets": targets}), seed)
    trainer = Trainer(model, OptimizerConfig(lr=0.01), objective)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        trainer.step([torch.randint(VOCAB, (4, ROW + 1), generator=generator)], 0.01)
    return model


def deviation(family: str, targets: list[str] | None, seed: int) -> float:
    """The larger deviation of peft's logits and of the merged model's logits."""
    model, base = trained(family, targets, seed), decoder(family, True, seed)
    tokens = torch.randint(VOCAB, (2, ROW), generator=torch.Generator().manual_seed(seed + 100))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_pretrained(base, folder / "base")
        save_pretrained(merged_decoder(model, model.state_dict()), folder / "merged")
        save_adapters(model, folder / "adapter")
        theirs = {part: _loaded(folder / part) for part in ("base", "merged")}
        adapted = peft.PeftModel.from_pretrained(theirs["base"], str(folder / "adapter")).eval()
        with torch.no_grad():
            found = [each(input_ids=tokens).logits for each in (adapted, theirs["merged"])]
            ours, without = model.logits(model(tokens)), base.logits(base(tokens))
    largest = ours.abs().max()
    if (ours - without).abs().max() < 0.01 * largest:
        raise RuntimeError(f"{family}: training has not changed the logits, so they say nothing about the adapters")
    return max(((each - ours).abs().max() / largest).item() for each in found)


def _loaded(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()


def main() -> None:
    """Prints the measurements as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="random models per case")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    runs: list[dict[str, float]] = []
    for seed in range(options.seeds):
        cases = [(family, targets) for family in FAMILIES for targets in TARGETS]
        runs.append({f"{family}, {targets or 'all'}": deviation(family, targets, seed) for family, targets in cases})
    worst = [max(run.values()) for run in runs]
    measurement = {
        "value": max(worst),
        "low": min(worst),
        "high": max(worst),
        "n": sum(map(len, runs)),
        "runs": worst,
        "unit": "relative",
        "cases": {name: max(run[name] for run in runs) for name in runs[0]},
        "shape": SHAPE,
    }
    print(json.dumps({"measurements": {"lora.peft": measurement}}))


if __name__ == "__main__":
    main()
