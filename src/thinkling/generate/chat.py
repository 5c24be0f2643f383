"""Selection of the chat template that a recipe asks for, and export of that template with the trained model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thinkling.data.chat_template import ChatTemplate, load_chat_template, ours_for, read_chat_template
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.config import ChatConfig

TEMPLATE, TOKENIZER_CONFIG, GENERATION_CONFIG = "chat_template.jinja", "tokenizer_config.json", "generation_config.json"
_SAMPLING = (
    *("do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "no_repeat_ngram_size"),
)


def chat_template(directory: Path, tokenizer: Tokenizer, chat: ChatConfig) -> ChatTemplate:
    """Returns the chat template for a model's directory. Raises UserError if the template is missing or invalid."""
    if chat.path is not None:
        found = read_chat_template(chat.path, directory)
    elif chat.template == "thinkling":
        found = ours_for(tokenizer)
    else:
        found = load_chat_template(directory)
    return found.with_settings(chat.variables) if chat.variables else found


def export_chat(directory: Path, template: ChatTemplate, tokenizer: Tokenizer, ends: Iterable[int]) -> None:
    """Writes the template and the tokens that end an answer into a model's directory, unless the directory already
    contains them."""
    if template.exported != tokenizer.chat_template:
        (directory / TEMPLATE).write_text(template.exported, encoding="utf-8")
        config = _read(directory / TOKENIZER_CONFIG)
        if config.pop("chat_template", None) is not None:  # leave only one template in the directory
            _write(directory / TOKENIZER_CONFIG, config)
    generation = _read(directory / GENERATION_CONFIG)
    named = generation.get("eos_token_id")
    known = named if isinstance(named, list) else [] if named is None else [named]
    if further := sorted(set(ends) - set(known)):
        _write(directory / GENERATION_CONFIG, {**generation, "eos_token_id": [*known, *further]})


def sampling_settings(directory: Path) -> dict[str, Any]:
    """Returns the sampling settings in the model's generation_config.json."""
    named = _read(directory / GENERATION_CONFIG)
    return {name: named[name] for name in _SAMPLING if named.get(name) is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); correct or replace the file") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object; correct or replace the file")
    return found


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
