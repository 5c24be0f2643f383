"""Low-rank adapters (LoRA, arXiv 2106.09685): a decoder's linear layers are frozen, and a product of two small matrices
is trained for each of them.

    y = x Wᵀ + (alpha / rank) · x Aᵀ Bᵀ

A is drawn at random and B is 0, so that a model with new adapters computes what the model without them does. Training
uses the two small matrices. Generation and export use merged weights, W + (alpha / rank) · B A.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.model.config import Float8Recipe, LoraConfig
from thinkling.model.decoder import Decoder, DecoderLayer
from thinkling.model.float8 import float8_linear

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""File names of peft, which loads the directory that contains these two files."""
_PREFIX = "base_model.model."
"""Prefix that peft puts before the name of a parameter."""
_A, _B = "lora_A.weight", "lora_B.weight"


class LoraLinear(nn.Linear):
    """A linear layer with an adapter. Its own weight and bias are frozen, and have the same names as without it."""

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        """Takes over the parameters of `base`. The adapter is in fp32, and A does not depend on the device."""
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.requires_grad_(False)
        self.scale = config.alpha / config.rank
        self.float8: Float8Recipe | None = None
        """If set, the product with the frozen weight is computed in fp8."""
        bound = 1 / math.sqrt(base.in_features)
        a = torch.empty(config.rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = _linear(a.to(base.weight.device))
        self.lora_B = _linear(torch.zeros(base.out_features, config.rank, device=base.weight.device))

    def forward(self, input: Tensor) -> Tensor:
        if self.float8 is None:
            frozen = super().forward(input)
        else:
            frozen = float8_linear(input, self.weight, self.bias, self.float8)
        return frozen + self.lora_B(self.lora_A(input) * self.scale)


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight)
    return linear


def add_adapters(model: Decoder, config: LoraConfig, seed: int) -> None:
    """Freezes the model and adds an adapter to each linear layer that `config` selects, in place.

    `seed`: seed of the matrices A. Raises UserError if the model does not fit the settings (`LoraConfig.mismatch`).
    """
    if reason := config.mismatch(model.config):
        raise UserError(reason)
    model.requires_grad_(False)
    model.lora = config
    generator = torch.Generator().manual_seed(seed)
    names = config.layers_of(model.config)
    for layer in model.model.layers:
        assert isinstance(layer, DecoderLayer)
        layer.fused = False
        for block in (layer.self_attn, layer.mlp):
            for name, linear in list(block.named_children()):
                if isinstance(linear, nn.Linear) and name in names:
                    setattr(block, name, LoraLinear(linear, config, generator))


def set_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Casts a model in place, except for its adapters. Adapters are small, and their updates need fp32."""
    adapters = [(p, p.data) for name, p in model.named_parameters() if is_adapter(name)]
    model.to(dtype)
    for p, data in adapters:
        p.data = data


class MergedWeights(Mapping[str, Tensor]):
    """A model's weights by name, as those of a decoder without adapters. Each weight is merged when it is read."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> None:
        """`tensors`: the weights of the model and its adapters by name, by default those of `model`, which are not
        copied."""
        self._tensors = dict(model.named_parameters()) if tensors is None else tensors
        self._scale = model.lora.alpha / model.lora.rank if isinstance(model, Decoder) and model.lora else 0.0

    def __getitem__(self, name: str) -> Tensor:
        weight = self._tensors[name]
        layer = name.removesuffix("weight")
        if layer + _A not in self._tensors:
            return weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        a, b = (self._tensors[layer + part].detach().to(dtype) for part in (_A, _B))
        return (weight.detach().to(dtype) + self._scale * (b @ a)).to(weight.dtype)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tensors if not is_adapter(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def merged_decoder(model: Decoder, tensors: Mapping[str, Tensor]) -> Decoder:
    """Returns a decoder without adapters, on the CPU, with merged weights. `tensors`: see `MergedWeights`."""
    with torch.device("meta"):
        merged = Decoder(model.config)
    weights = {name: weight.detach().cpu() for name, weight in MergedWeights(model, tensors).items()}
    merged.load_state_dict(weights, assign=True)
    return merged


def is_adapter(name: str) -> bool:
    """Whether a parameter with this name belongs to an adapter."""
    return name.endswith((_A, _B))


def save_adapters(model: Decoder, directory: Path, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Writes adapters as a directory that `peft.PeftModel.from_pretrained` loads on the model without them.

    `tensors`: see `MergedWeights`; only those of adapters are written.
    """
    assert model.lora is not None
    targets = list(model.lora.layers_of(model.config))
    tensors = model.state_dict() if tensors is None else tensors
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(
        json.dumps(_peft_config(model.lora, targets), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    found = {_PREFIX + name: x.detach().cpu().contiguous() for name, x in tensors.items() if is_adapter(name)}
    save_file(found, directory / WEIGHTS, metadata={"format": "pt"})


def _peft_config(config: LoraConfig, targets: list[str]) -> dict[str, Any]:
    """Returns the content of adapter_config.json. The path of the base model depends on the machine, so it is null."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha.is_integer() else config.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
