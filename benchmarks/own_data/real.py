"""SmolLM2-135M-Instruct on 200 GSM8K training problems through recipes/sft.yaml, with calculator calls.

    python -m benchmarks.own_data.smollm2 models/smollm2
    python -m benchmarks.own_data.real --model models/smollm2

Each annotation `<<48/2=24>>` in a solution becomes a tool call, and the tool writes its result. Reported: the loss, the
calls made and answered on held-out problems, and whether transformers continues prompts with the exported model as
thinkling does (greedy, fp32, until the first call or the end).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

N_TRAIN, N_HELDOUT, N_COMPARED = 200, 24, 5
MAX_NEW_TOKENS = 200
LAST_STEPS = 5
"""Number of last steps whose mean loss is compared with that of the first step."""


def write_recipe(path: Path, model: Path, data: Path) -> None:
    """recipes/sft.yaml with GSM8K in place of the chats and an evaluation at the end. YAML is a superset of JSON."""
    import yaml

    recipe = yaml.safe_load((ROOT / "recipes" / "sft.yaml").read_text(encoding="utf-8"))
    recipe["name"] = "real"
    recipe["sources"]["start"]["path"] = str(model)
    del recipe["sources"]["chats"]
    recipe["sources"]["gsm8k"] = {
        "type": "problems",
        "preset": "gsm8k",
        "paths": [str(data / "gsm8k" / "train.jsonl")],
        "heldout_paths": [str(data / "gsm8k" / "test.jsonl")],
        "heldout_limit": N_HELDOUT,
        "calculator_calls": True,
        "template": "{question}\nPut the final answer in \\boxed{}.",
    }
    recipe["stages"]["sft"] |= {
        "chat": {"template": "thinkling"},
        "examples": {"source": "gsm8k", "n_examples": N_TRAIN},
        "epochs": 3,
        "sequence_length": 1024,
        "batch_size": 4,
        "optimizer": {"name": "adamw", "lr": 2e-4},
        "warmup_steps": 5,
    }
    recipe["stages"]["evaluate"] = {
        "kind": "evaluate",
        "inputs": {"model": "sft"},
        "task_sets": {"gsm8k": {"source": "gsm8k"}},
        "k": 1,
        "temperature": 0.0,
        "max_new_tokens": MAX_NEW_TOKENS,
        "max_tool_calls": 10,
    }
    path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")


def run(model: Path, work: Path, data: Path) -> dict[str, Any]:
    """Runs the recipe in `work` and returns the figures. CalledProcessError if it fails."""
    work.mkdir(parents=True, exist_ok=True)
    write_recipe(work / "real.yaml", model.resolve(), data)
    command = [sys.executable, "-m", "thinkling", "run", str(work / "real.yaml"), "--runs", str(work / "runs")]
    subprocess.run(command, check=True)
    return measure(work / "runs" / "real")


def measure(run: Path) -> dict[str, Any]:
    """Figures of the run: losses, calls, and the fraction of prompts that transformers continues identically."""
    from thinkling.generate.rollouts import read_rollouts

    sft, evaluate = (next(run.glob(f"{stage}-*[0-9a-f]")) for stage in ("sft", "evaluate"))
    losses = [json.loads(line)["loss"] for line in (sft / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rollouts = [r for path in sorted((evaluate / "rollouts" / "gsm8k").glob("*.parquet")) for r in read_rollouts(path)]
    return {
        "loss_first": losses[0],
        "loss_last": sum(losses[-LAST_STEPS:]) / LAST_STEPS,
        "problems": len(rollouts),
        "calls": sum(r.tool_calls for r in rollouts),
        "calls_failed": sum(r.text.count("error:") for r in rollouts),
        "with_calls": sum(r.tool_calls > 0 for r in rollouts),
        "right": sum(r.right for r in rollouts),
        "equal_to_transformers": _equal(sft / "model", [r.prompt for r in rollouts[:N_COMPARED]]),
        "example": rollouts[0].text,
    }


def _equal(directory: Path, prompts: list[list[int]]) -> float:
    """Fraction of prompts with the same greedy continuation, token by token, until the end of the turn."""
    import torch
    from transformers import AutoModelForCausalLM

    from thinkling.generate.engine import Request, Sampling
    from thinkling.generate.loaded import LoadedModel
    from thinkling.generate.native.engine import NativeEngine

    loaded = LoadedModel.load(directory, torch.device("cpu"), torch.float32)
    stops = loaded.renderer.stop_ids
    engine = NativeEngine(loaded.decoder)
    requests = [Request(tuple(prompt), 0, MAX_NEW_TOKENS) for prompt in prompts]
    ours = [c.tokens for c in engine.generate(requests, Sampling(temperature=0.0, stop_ids=stops))]
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    equal = []
    for prompt, mine in zip(prompts, ours, strict=True):
        found = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            temperature=None,
            top_p=None,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=sorted(stops),
        )
        equal.append(found[0, len(prompt) :].tolist() == mine)
    return sum(equal) / len(equal)


def holds(found: Mapping[str, Any]) -> float:
    """Fraction of the claim's four parts that hold: loss falls, calls made, all answered, equal continuations."""
    parts = (
        found["loss_last"] < found["loss_first"],
        found["calls"] > 0,
        found["calls_failed"] == 0,
        found["equal_to_transformers"] == 1.0,
    )
    return sum(parts) / len(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct on GSM8K with calculator calls")
    parser.add_argument("--model", type=Path, default=Path("models/smollm2"), help="Hugging Face directory")
    parser.add_argument("--keep", type=Path, help="folder to work in; deleted at the end if not given")
    arguments = parser.parse_args()
    data = os.environ.get("THINKLING_DATA")
    if data is None:
        raise SystemExit("own-data.real needs GSM8K; set THINKLING_DATA to a folder that contains it")
    with tempfile.TemporaryDirectory() as folder:
        found = run(arguments.model, (arguments.keep or Path(folder)).resolve(), Path(data))
    print(json.dumps(found, indent=1))
    value = {"value": holds(found), "low": None, "high": None, "n": 4, "runs": [], "unit": "fraction", "found": found}
    print(json.dumps({"measurements": {"own-data.real": value}}))


if __name__ == "__main__":
    main()
