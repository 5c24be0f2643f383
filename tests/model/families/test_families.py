"""The registry of families, and what the built-in ones say of themselves."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from thinkling import plugins
from thinkling.errors import UserError
from thinkling.generate.native import weights
from thinkling.model import families, fused
from thinkling.model.config import ModelConfig
from thinkling.model.families.base import Features, NormNames
from thinkling.model.huggingface import read_config, to_config
from thinkling.plugins import Registry

SHAPE: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
}  # fmt: skip


def config_of(architecture: str, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate(SHAPE | {"architecture": architecture} | changes)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages that add a family, neither of them rightly."""
    points = [
        EntryPoint("absent", "no_such_package:FAMILY", "thinkling.families"),
        EntryPoint("strange", "json:dumps", "thinkling.families"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    registry = Registry(families.FAMILIES.what, families.FAMILIES.group, families.FAMILIES.built_in)
    for module in ("families", "config", "huggingface"):
        monkeypatch.setattr(f"thinkling.model.{module}.FAMILIES", registry)


@pytest.mark.parametrize("architecture", families.FAMILIES.built_in)
def test_a_familys_name_is_its_model_type(architecture: str, tmp_path: Path) -> None:
    config = config_of(architecture)
    raw = to_config(config)
    assert config.family.model_type == raw["model_type"] == architecture
    assert raw["architectures"] == [config.family.class_name]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert read_config(tmp_path) == config


SUPPORTED = {
    "llama": (True, True),
    "qwen2": (False, True),
    "qwen3": (True, True),
    "mistral": (True, True),
    "smollm3": (True, True),
    "olmo2": (False, True),
    "phi3": (True, True),
    "granite": (False, True),
    "gemma2": (False, True),
    "gemma3_text": (False, True),
}
"""Family → whether the fused training block, and the native engine, support it."""


def test_fast_paths_say_what_they_support() -> None:
    configs = {name: config_of(name) for name in families.FAMILIES.built_in}
    assert {name: (fused.supports(c), weights.supports(c)) for name, c in configs.items()} == SUPPORTED


def test_features_in_use_are_those_that_differ_from_llama() -> None:
    assert Features().used() == frozenset()
    assert Features(norms=NormNames()).used() == frozenset()
    assert Features(norms=NormNames(after_mlp="post"), qkv_bias=True).used() == {"norms", "qkv_bias"}
    assert Features(extra_layer_parameters=3).used() == frozenset()


def test_unknown_model_type_is_named_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    known = "model_type 'gpt2' is not supported; use one of llama, qwen2, .*, gemma3_text; a package can add others"
    with pytest.raises(UserError, match=known) as caught:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.usefixtures("broken")
def test_a_broken_family_fails_only_its_own_models(tmp_path: Path) -> None:
    assert config_of("llama").parameter_count() > 0
    for name, message in (
        ("absent", r"architecture 'absent': no_such_package:FAMILY cannot be loaded"),
        ("strange", r"architecture 'strange': its entry point is <function dumps.*, which is not a Family"),
    ):
        with pytest.raises(UserError, match=message):
            config_of(name).parameter_count()
        (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
        with pytest.raises(UserError, match=message):
            read_config(tmp_path)


def test_families_load_no_torch() -> None:
    code = (
        "import sys; from thinkling.model.families import FAMILIES, family_of;"
        "[family_of(name) for name in FAMILIES.built_in]; print(*{'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
