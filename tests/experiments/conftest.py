"""A recipe for report that runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPE = Path(__file__).resolve().parents[2] / "experiments" / "recipe.yaml"


@pytest.fixture
def recipe_data() -> dict[str, Any]:
    """experiments/recipe.yaml shrunk to a model that learns nothing much."""
    data = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    data["model"] |= {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    data["model"] |= {"head_dim": 16, "num_hidden_layers": 1}
    data["tokenizer"] = {"vocab_size": 512}
    data["sources"]["puzzles"] |= {"families": {"sort": {}, "maximum": {}}, "heldout_per_family": 6}
    data["sources"]["pages"] |= {"pages_per_family": 120, "family_weights": {}}
    stages = data["stages"]
    for phase in stages["pretrain"]["phases"]:
        phase["tokens"] = "4K"
    for name in ("sft_cold", "sft", "sft_teacher"):
        stages[name]["examples"]["n_examples"] = 120
        stages[name]["batch_size"] = 4
    for name in ("evaluate_sft", "evaluate_dpd", "evaluate_rl"):
        stages[name] |= {"k": 2, "max_new_tokens": 24}
    return data


@pytest.fixture
def recipe(recipe_data: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_data, sort_keys=False), encoding="utf-8")
    return path
