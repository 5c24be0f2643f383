"""The whole of recipes/posttrain.yaml on a user's files, with tiny models of two families.

    python -m benchmarks.own_data.posttrain [--keep DIR]

A GSM8K file and an MBPP file in their original formats and a chat file in each of five forms go through refine → sft →
dpd → rl → evaluate on the CPU, once with a model of Llama-3's shape and template and once with one of Qwen3's. The
teacher is trained first with recipes/sft.yaml; refine uses a served teacher that knows the solutions. Only fields of
the recipes are set. The models learn a dozen problems by heart; the benchmark measures whether every stage finishes and
whether transformers loads every model directory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.own_data.teacher_server import Teacher, served
from benchmarks.own_data.tiny_models import SHAPES, Shape, write_model

N_MATHS, N_CODE, N_CHATS = 16, 16, 6
LONGEST_QUESTION, LONGEST_CODE = 220, 120
"""Maximum number of characters; short texts are learned by heart sooner."""
STAGES = ("refine", "sft", "dpd", "rl", "before", "evaluate")
MODELS = ("sft", "dpd", "rl")


def write_files(directory: Path, data: Path) -> dict[str, tuple[str, str]]:
    """Writes the user's files; returns start of a question → (reasoning, answer) for the served teacher."""
    directory.mkdir(parents=True)
    maths = [row for row in _rows(data / "gsm8k" / "train.jsonl") if len(row["question"]) < LONGEST_QUESTION]
    test = [row for row in _rows(data / "gsm8k" / "test.jsonl") if len(row["question"]) < LONGEST_QUESTION]
    code = [row for row in _rows(data / "mbpp" / "mbpp.jsonl") if len(row["code"]) < LONGEST_CODE]
    _write(directory / "train.jsonl", maths[:N_MATHS])
    _write(directory / "test.jsonl", test[:4])
    _write(directory / "mbpp.jsonl", code[:N_CODE])
    _write_chats(directory)
    solutions = {}
    for row in maths[:N_MATHS]:
        reasoning, _, answer = row["answer"].partition("#### ")
        solutions[row["question"]] = (reasoning.strip(), f"The answer is \\boxed{{{answer}}}.")
    return solutions


def _write_chats(directory: Path) -> None:
    """Short chats of our own in each of the five forms."""
    topics = ("tea", "chess", "rain", "bread", "glass", "stars")[:N_CHATS]
    asked = [(f"Say one thing about {topic}.", f"Here is one thing about {topic}: people like it.") for topic in topics]
    chats = directory / "chats"
    chats.mkdir()
    _write(
        chats / "messages.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": q},
                    {"role": "assistant", "content": a, "reasoning_content": "short"},
                ]
            }
            for q, a in asked
        ],
    )  # fmt: skip
    _write(
        chats / "sharegpt.jsonl",
        [
            {"conversations": [{"from": "human", "value": q + " Please."}, {"from": "gpt", "value": a}]}
            for q, a in asked
        ],
    )
    _write(chats / "alpaca.jsonl", [{"instruction": q, "input": "Be brief.", "output": a} for q, a in asked])
    _write(chats / "prompt.jsonl", [{"prompt": q + " Thanks.", "completion": a} for q, a in asked])
    pairs = [{"prompt": q, "chosen": a, "rejected": "I do not know."} for q, a in asked]
    _write(directory / "preferences.jsonl", pairs)


def run_shape(shape: Shape, work: Path, data: Path) -> dict[str, Any]:
    """Runs both recipes; returns which stages finished and which directories transformers loads."""
    files = work / "data"
    solutions = write_files(files, data)
    write_model(work / "start", shape, _texts(files))
    write_model(work / "bigger", shape, _texts(files), layers=4, seed=1)
    own = "own" if shape == "qwen3" else "thinkling"
    maths = {"sources.maths.paths": [f"{files}/train.jsonl"], "sources.maths.heldout_paths": [f"{files}/test.jsonl"]}
    training = {"optimizer": {"name": "adamw", "lr": 3e-3}, "sequence_length": 1024}
    teacher = work / "runs" / "teacher"
    with served(Teacher(solutions)) as url:
        backend = {"url": url, "model": "teacher", "max_new_tokens": 1024}
        settings = {
            "threads": 1,
            "sources.start.path": str(work / "start"),
            "sources.teacher.path": str(work / "teacher"),
            **maths,
            "sources.code.paths": [f"{files}/mbpp.jsonl"],
            "sources.chats.paths": [f"{files}/chats"],
            "sources.preferences.paths": [f"{files}/preferences.jsonl"],
            "stages.refine.inputs": {},
            "stages.refine.problems": {"source": "maths"},
            "stages.refine.drafters": [backend],
            "stages.refine.checklist": backend,
            "stages.refine.evaluators": [backend],
            "stages.refine.reviser": backend,
            "stages.refine.chain": backend,
            "stages.sft.chat.template": own,
            "stages.sft.epochs": 60,
            "stages.sft.batch_size": 2,
            "stages.dpd.problems": [{"source": "maths"}],
            "stages.dpd.steps": 4,
            "stages.dpd.warmup_steps": 1,
            "stages.dpd.batch_size": 4,
            "stages.dpd.sequence_length": 1024,
            "stages.dpd.pairs.max_new_tokens": 200,
            "stages.rl.problems": [{"source": "maths"}, {"source": "code"}],
            "stages.rl.steps": 2,
            "stages.rl.warmup_steps": 0,
            "stages.rl.prompts_per_step": 2,
            "stages.rl.max_new_tokens": 200,
            "stages.rl.band": {"samples": 16, "low": 0.0, "high": 1.0, "min_prompts": 1},
            "stages.before.chat": {"template": own},
            "stages.before.max_new_tokens": 100,
            "stages.before.k": 1,
            "stages.evaluate.max_new_tokens": 200,
            "stages.evaluate.k": 1,
        }
        for key, value in training.items():
            settings[f"stages.sft.{key}"] = value
        _thinkling("sft.yaml", work, _teacher_settings(work, files, own, training))
        (work / "teacher").symlink_to(teacher / "model")
        _thinkling("posttrain.yaml", work, settings)
    run = work / "runs" / "posttrain"
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {"ended": [s["name"] for s in summary["stages"]], "loaded": _loaded(run)}


def _teacher_settings(work: Path, files: Path, chat: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """A larger model with the same tokenizer, trained on problems and chats by recipes/sft.yaml plus two sources."""
    maths = {
        "type": "problems",
        "preset": "gsm8k",
        "paths": [f"{files}/train.jsonl"],
        "heldout_paths": [f"{files}/test.jsonl"],
        "template": "{question}\nPut the final answer in \\boxed{}.",
    }
    return {
        "name": "teacher",
        "threads": 1,
        "sources.start.path": str(work / "bigger"),
        "sources.chats.paths": [f"{files}/chats"],
        "sources.maths": maths,
        "sources.code": {"type": "problems", "preset": "mbpp", "paths": [f"{files}/mbpp.jsonl"]},
        "stages.sft.chat.template": chat,
        "stages.sft.examples": [{"source": name} for name in ("chats", "maths", "code")],
        "stages.sft.epochs": 60,
        "stages.sft.batch_size": 2,
        **{f"stages.sft.{key}": value for key, value in training.items()},
    }


def _thinkling(recipe: str, work: Path, settings: Mapping[str, Any]) -> None:
    """Runs a shipped recipe with --set, as a user would. CalledProcessError if it fails."""
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "thinkling", "run", str(ROOT / "recipes" / recipe), "--runs", str(work / "runs")]
    print(recipe, "in", work, flush=True)
    subprocess.run([*command, *options], cwd=work, check=True)


def _loaded(run: Path) -> dict[str, bool]:
    """Stage → whether transformers loads its model directory with tokenizer and template, and computes the same logits
    as thinkling."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from thinkling.generate.loaded import LoadedModel
    from thinkling.model.attention import DocumentLayout

    found = {}
    for directory in sorted(run.glob("*/model")):
        if directory.parent.is_symlink() or directory.is_symlink():
            continue
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is 2 + 2?"}], add_generation_prompt=True, return_dict=False
        )
        loaded = LoadedModel.load(directory, torch.device("cpu"), torch.float32)
        same_ids = list(ids) == loaded.renderer.prompt([{"role": "user", "content": "What is 2 + 2?"}]).tolist()
        tokens_BT = torch.tensor([ids])
        with torch.no_grad():
            theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(tokens_BT).logits
            layout = DocumentLayout.from_lengths([(len(ids),)], len(ids), torch.device("cpu"))
            ours = loaded.decoder(tokens_BT, layout) @ loaded.decoder.output_weight.T
        close = float((theirs - ours[..., : theirs.shape[-1]]).abs().max()) <= 1e-5 * float(theirs.abs().max())
        found[directory.parent.name.rpartition("-")[0]] = same_ids and close
    return found


def _texts(files: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(files.rglob("*.jsonl"))]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def measurement(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fraction of stages that finished and of directories that load identically, over both shapes."""
    checks = [
        done
        for result in found.values()
        for done in (*(stage in result["ended"] for stage in STAGES), *(result["loaded"].get(s, False) for s in MODELS))
    ]
    return {
        "value": sum(checks) / len(checks),
        "low": None,
        "high": None,
        "n": len(checks),
        "runs": checks,
        "unit": "fraction",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="recipes/posttrain.yaml on a user's files, two tiny families")
    parser.add_argument("--keep", type=Path, help="folder to work in; deleted at the end if not given")
    arguments = parser.parse_args()
    data = os.environ.get("THINKLING_DATA")
    if data is None:
        raise SystemExit("own-data.posttrain needs GSM8K and MBPP; set THINKLING_DATA to a folder that contains them")
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.keep or Path(folder)).resolve()
        found = {shape: run_shape(shape, work / shape, Path(data)) for shape in SHAPES}
    for shape, result in found.items():
        print(shape, json.dumps(result))
    print(json.dumps({"measurements": {"own-data.posttrain": measurement(found)}}))


if __name__ == "__main__":
    main()
