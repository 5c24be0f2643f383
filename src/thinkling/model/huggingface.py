"""Loading and saving of Hugging Face directories. The decoder's parameters have Hugging Face's names, so weights are
not converted.

The tests compare logits with those of transformers, rather than comparing parameter names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.families import FAMILIES, family_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")
_BUFFER = "rotary_emb.inv_freq"
"""End of the name of a tensor in old files. The tensor is not loaded, because config.json determines its values."""
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def save_pretrained(
    model: Decoder,
    directory: Path,
    tokenizer_dir: Path | None = None,
    generation: dict[str, Any] | None = None,
    stop_ids: Collection[int] = (),
) -> None:
    """Writes config.json, model.safetensors, generation_config.json and the tokenizer's files.

    `generation`: sampling settings for generation_config.json. Token ids are read from the tokenizer's files in
    `tokenizer_dir`. The end-of-text ids also include those in the generation_config.json and config.json of that
    directory, and `stop_ids`, because a base model's files do not list the token that ends a turn. Other engines must
    stop at this token, as ours does.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ids = _token_ids(tokenizer_dir, stop_ids, model.config.known_vocab_size) if tokenizer_dir else {}
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    _write(directory / "config.json", to_config(model.config) | {"dtype": dtype} | ids)
    _write(directory / "generation_config.json", {**(generation or {}), **ids})
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})
    if tokenizer_dir is not None:
        copy_tokenizer(tokenizer_dir, directory)


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copies a tokenizer's files, including its chat template."""
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def load_pretrained(directory: Path, dtype: torch.dtype | None = None) -> Decoder:
    """Loads the model in a directory onto the CPU, in the dtype of its weights unless `dtype` is given.

    Raises UserError with the file and the field if the architecture is unknown, if an unsupported setting would change
    the logits, or if weights are missing or have the wrong shape.
    """
    config = read_config(directory)
    with torch.device("meta"):  # saves memory and time, because the initial weights are replaced
        model = Decoder(config)
    state = {name: weight for name, weight in _read_weights(directory).items() if not name.endswith(_BUFFER)}
    if model.config.tie_word_embeddings:
        _drop_tied_head(state, directory)
    wanted = model.state_dict()
    for name in sorted(set(wanted) | set(state)):
        there, needed = state.get(name), wanted.get(name)
        if there is None:
            raise UserError(f"{directory}: weight {name} is missing; copy or download the model again")
        if needed is None:
            raise UserError(
                f"{directory}: a {model.config.architecture} model has no weight {name}; correct model_type in "
                "config.json, or use a different model"
            )
        if there.shape != needed.shape:
            raise UserError(
                f"{directory}: weight {name} has shape {tuple(there.shape)}, but config.json implies "
                f"{tuple(needed.shape)}; correct config.json or replace the weights"
            )
    dtype = dtype or state["model.embed_tokens.weight"].dtype
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    return model


def _drop_tied_head(state: dict[str, Tensor], directory: Path) -> None:
    head, embedding = state.pop("lm_head.weight", None), state.get("model.embed_tokens.weight")
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise UserError(
            f"{directory}: tie_word_embeddings is true in config.json, but the weights contain an lm_head.weight that "
            "differs from model.embed_tokens.weight; set tie_word_embeddings to false to use lm_head.weight, or remove "
            "that weight"
        )


def to_config(config: ModelConfig) -> dict[str, Any]:
    """Returns the content of config.json in transformers' format."""
    family = config.family
    settings = {name: family.setting(config, name) for name in family.settings}
    return {"architectures": [family.class_name], "model_type": family.model_type} | settings | family.write(config)


def read_config(directory: Path) -> ModelConfig:
    """Returns the configuration of the model in a Hugging Face directory.

    Raises UserError with the name of the missing or unsupported field.
    """
    path = directory / "config.json"
    raw = _read(path)
    architecture = raw.get("model_type")
    if not isinstance(architecture, str) or architecture not in FAMILIES:
        raise UserError(
            f"{path}: model_type {architecture!r} is not supported; use one of {', '.join(FAMILIES.names())}; a "
            f"package can add others with an entry point in the group {FAMILIES.group}"
        )
    family = family_of(architecture)
    settings = {name: raw[name] for name, default in family.settings.items() if raw.get(name, default) != default}
    try:
        return ModelConfig.model_validate(
            {"architecture": architecture, "settings": settings, **family.read(raw, path)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}: {'.'.join(map(str, first['loc'])) or 'config'}: {first['msg'].removeprefix('Value error, ')}"
        ) from error


def check_pretrained(directory: Path) -> None:
    """Checks the configuration and the files without reading any weights; raises the same UserErrors as
    `load_pretrained`."""
    read_config(directory)
    for path in _weight_files(directory):
        _opened(path)


def _read_weights(directory: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in _weight_files(directory):
        with _opened(path) as file:
            state |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)
    return state


def _opened(path: Path) -> Any:
    """Opens a safetensors file. Opening the file checks that the header matches the file's size."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a valid safetensors file ({error}); copy or download it again") from error


def _weight_files(directory: Path) -> list[Path]:
    if (directory / INDEX).is_file():
        weight_map = _read(directory / INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise UserError(f"{directory / INDEX}: weight_map is missing; copy or download the file again")
        names = sorted(set(weight_map.values()))
        if bad := [name for name in names if Path(name).name != name]:
            raise UserError(
                f"{directory / INDEX}: weight_map lists {bad[0]!r}, which is outside the directory; correct weight_map"
            )
    else:
        pickles = [name for name in _PICKLES if (directory / name).is_file()]
        if pickles and not (directory / WEIGHTS).is_file():
            raise UserError(
                f"{directory / pickles[0]}: pickles are not loaded because they can run code; convert the file to "
                f"{WEIGHTS} with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
            )
        names = [WEIGHTS]
    return [directory / name for name in names]


def _token_ids(source: Path, stop_ids: Collection[int], vocab_size: int) -> dict[str, Any]:
    """Returns the ids of the tokens that begin, end and pad a text, from the files of a tokenizer or model. Ids outside
    the embedding are excluded: they can never be sampled, and transformers does not load a padding id of that kind."""
    config = _read(source / "tokenizer_config.json")
    tokens = {t["content"]: t["id"] for t in _read(source / "tokenizer.json").get("added_tokens", [])}
    files = [_read(source / name) for name in ("generation_config.json", "config.json") if (source / name).is_file()]
    found: dict[str, Any] = {}
    for role in ("bos", "eos", "pad"):
        token = config.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        ids = [tokens[token]] if token in tokens else []
        if role == "eos" or not ids:
            ids += [i for file in files for i in _listed(file.get(f"{role}_token_id"))]
        if role == "eos":
            ids += sorted(stop_ids)
        ids = [i for i in dict.fromkeys(ids) if 0 <= i < vocab_size]
        if ids:
            found[f"{role}_token_id"] = ids if role == "eos" and len(ids) > 1 else ids[0]
    return found


def _listed(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool)]


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read, or is not valid JSON ({error}); correct or replace the file"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object; correct or replace the file")
    return value


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
