"""The recipe small-gpu: its size, its comments for own data, and all of its stages with small numbers on a CPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from thinkling.pipeline.plan import plan_pretraining
from thinkling.pipeline.recipe import load_recipe
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.training.config import TrainingConfig

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "small-gpu.yaml"
SMALL = {
    "threads": 1,
    "model": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    },
    "tokenizer.vocab_size": 512,
    "sources.short.families": {
        "sort": {"min_length": 2, "max_length": 2},
        "calc": {"min_digits": 1, "max_digits": 1},
    },
    "sources.puzzles.families": {
        "sort": {"min_length": 2, "max_length": 2},
        "calc": {"min_digits": 1, "max_digits": 1},
    },
    "sources.puzzles.heldout_per_family": 4,
    "sources.pages.pages_per_family": 64,
    "sources.pages.family_weights": {"calc": 2},
    "stages.curate.sources": ["topics", "pages"],
    "stages.curate.grading": {
        "seeds": {"pages": 24},
        "hq_tokens": "8K",
        "bytes_per_token": {"topics": 3, "pages": 1.3},
        "annotated": {"topics": 16, "pages": 100},
        "fitted_on": 200,
        "dimensions": 8,
        "neighbours": 30,
    },
    "stages.pretrain.sequence_length": 64,
    "stages.pretrain.batch_tokens": 512,
    "stages.pretrain.validation_rows": 4,
    "stages.pretrain.max_epochs": {"hq-pages": 8},
    "stages.pretrain.average.every": 2,
    "stages.pretrain.phases.0.tokens": "4K",
    "stages.pretrain.phases.0.mixture": {"hq-pages": 0.5, "mq-topics": 0.3, "mq-pages": 0.2},
    "stages.pretrain.phases.1.tokens": "12K",
    "stages.pretrain.phases.1.mixture": {"hq-pages": 0.5, "mq-topics": 0.3, "mq-pages": 0.2},
    "stages.pretrain.phases.2.tokens": "8K",
    "stages.pretrain.phases.2.mixture": {"hq-pages": 1},
    "stages.pretrain.phases.3.tokens": "8K",
    "stages.pretrain.phases.3.mixture": {"hq-pages": 1},
    "stages.pretrain.phases.3.sequence_length": 128,
    "stages.evaluate_base.max_new_tokens": 48,
    "stages.sft.examples.n_examples": 120,
    "stages.sft.sequence_length": 128,
    "stages.sft.batch_size": 4,
    "stages.evaluate_sft.max_new_tokens": 48,
    # The teacher learns the few problems by heart.
    "stages.sft_teacher.examples": {"source": "puzzles", "n_examples": 128},
    "stages.sft_teacher.epochs": 16,
    "stages.sft_teacher.sequence_length": 128,
    "stages.sft_teacher.batch_size": 4,
    "stages.sft_teacher.optimizer.lr": 4e-3,
    "stages.dpd.problems": [{"source": "puzzles", "n_problems": 80}],
    "stages.dpd.pairs": {"student_samples": 2, "teacher_samples": 4, "max_new_tokens": 48},
    "stages.dpd.steps": 4,
    "stages.dpd.batch_size": 2,
    "stages.dpd.solved_per_step": 0,
    "stages.dpd.sequence_length": 128,
    "stages.evaluate_dpd.max_new_tokens": 48,
    "stages.rl.inputs.model": "sft_teacher",
    "stages.rl.problems": [{"source": "puzzles", "n_problems": 48}],
    "stages.rl.band": {"samples": 4, "low": 0, "high": 1, "min_prompts": 1},
    "stages.rl.steps": 2,
    "stages.rl.prompts_per_step": 4,
    "stages.rl.samples_per_prompt": 4,
    "stages.rl.max_new_tokens": 48,
    "stages.evaluate.max_new_tokens": 48,
}
"""Fields with which all stages run in a minute. dpd's model is not trained long enough to solve problems, so rl starts
from the teacher."""


def test_the_size_is_for_minutes_on_one_gpu() -> None:
    """Parameters, and the time of pre-training at a tenth of an H100's peak."""
    recipe = load_recipe(RECIPE)
    plan = plan_pretraining(recipe, "pretrain", {})
    assert plan.parameters is not None
    assert 30e6 < plan.parameters < 120e6
    assert plan.gpu_hours(recipe.hardware) * 60 < 3
    assert recipe.hardware.mfu == 0.1


def test_every_training_stage_is_set_up_for_a_gpu() -> None:
    recipe = load_recipe(RECIPE)
    training = [stage for stage in recipe.stages.values() if isinstance(stage, TrainingConfig)]
    assert {type(stage) for stage in training} >= {PretrainConfig, DpdConfig, RlConfig}
    assert all(stage.compile and stage.precision.compute == "bfloat16" for stage in training)
    assert recipe.model is not None
    sizes = [size for pair in recipe.model.linear_layers().values() for size in pair]
    assert all(size % 128 == 0 for size in sizes)
    kinds = [stage.kind for stage in recipe.stages.values()]
    assert list(dict.fromkeys(kinds)) == ["curate", "tokenize", "pretrain", "evaluate", "sft", "dpd", "rl"]


def test_the_commented_lines_for_own_data_are_valid() -> None:
    found = re.findall(r"^  #   (\w+): (\{type: .*\})$", RECIPE.read_text(encoding="utf-8"), re.M)
    sources = {name: yaml.safe_load(text) for name, text in found}
    assert sources.keys() == {"web", "maths", "chats", "teacher"}
    overrides = [f"sources.{name}={json.dumps(source)}" for name, source in sources.items()]
    uses = ["stages.dpd.inputs.teacher=teacher", "stages.sft.examples={source: chats}"]
    recipe = load_recipe(RECIPE, [*overrides, *uses])
    assert sources.keys() <= recipe.sources.keys()


@pytest.mark.slow
def test_all_stages_run_on_a_cpu(tmp_path: Path) -> None:
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "thinkling", "run", str(RECIPE), "--runs", str(tmp_path), *settings]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = tmp_path / "small-gpu"
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert [stage["name"] for stage in summary["stages"]] == list(load_recipe(RECIPE).stages)
    (pretrain,) = run.glob("pretrain-*")
    counts = json.loads((pretrain / "manifest.json").read_text(encoding="utf-8"))["counts"]
    assert counts["average"]["weights"] > 2
    assert counts["skipped_steps"] == 0
    for kind in ("pretrain", "sft", "dpd", "rl"):
        (directory,) = [path for path in run.glob(f"{kind}-*") if path.is_dir()]
        assert (directory / "model" / "model.safetensors").stat().st_size > 0
