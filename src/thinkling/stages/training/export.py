"""Exports weights as a Hugging Face directory: the weights of the last step, of the best step, or of any checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from thinkling.data.artifact import write_json
from thinkling.data.seals import damage, seal, sealed
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.chat import GENERATION_CONFIG, sampling_settings
from thinkling.generate.renderer import Renderer
from thinkling.model.config import LoraConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import copy_tokenizer, load_pretrained, read_config, save_pretrained, to_config
from thinkling.model.lora import add_adapters, is_adapter, merged_decoder, save_adapters
from thinkling.train.callback import Callback
from thinkling.train.checkpoint import read_weights
from thinkling.train.parallel import Parallel
from thinkling.train.precision import DTYPES

TOKENIZER, CONFIG, LORA = "tokenizer", "config.json", "lora.json"
"""`TOKENIZER` is the directory of the tokenizer's files in a stage's `checkpoints/`. `CONFIG` is the file in each
checkpoint that contains the model's configuration at that step. `LORA` is the file in each checkpoint of adapters that
contains their settings and the path of the model to which they belong."""
ADAPTERS = "adapter"
"""Directory of adapters in peft's format, next to the directory of the merged model."""
GENERATION = {"temperature": 0.6, "top_p": 0.95, "do_sample": True}
"""Sampling settings that are exported if the model has none."""


def export(
    model: Decoder,
    directory: Path,
    tokenizer_dir: Path,
    parallel: Parallel,
    renderer: Renderer | None = None,
    adapters: Path | None = None,
) -> None:
    """Writes a Hugging Face directory. If `renderer` is given, the directory includes its chat template. Sharded
    weights are gathered, and rank 0 writes them. The weights of a model with adapters are merged; the adapters
    themselves are written to the directory `adapters`."""
    from torch.distributed.tensor import DTensor

    state = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in model.state_dict().items()}
    if parallel.rank == 0:
        whole = model if parallel.world_size == 1 and model.lora is None else merged_decoder(model, state)
        shutil.rmtree(directory, ignore_errors=True)
        save_pretrained(
            whole, directory, tokenizer_dir, _sampling(tokenizer_dir), Tokenizer.load(tokenizer_dir).stop_ids
        )
        if renderer is not None:
            renderer.export(directory)
        if model.lora is not None and adapters is not None:
            shutil.rmtree(adapters, ignore_errors=True)
            save_adapters(model, adapters, state)


class CheckpointFiles(Callback):
    """Stores the files that are needed to convert a checkpoint into a Hugging Face directory. Used on rank 0 only."""

    def __init__(
        self, checkpoints: Path, model: Decoder, tokenizer_dir: Path, renderer: Renderer | None = None
    ) -> None:
        """The model's configuration is read at every checkpoint, because training may change it."""
        self.checkpoints, self.model, self.tokenizer_dir, self.renderer = checkpoints, model, tokenizer_dir, renderer

    def on_start(self, first_step: int) -> None:
        (self.checkpoints / TOKENIZER).mkdir(parents=True, exist_ok=True)
        copy_tokenizer(self.tokenizer_dir, self.checkpoints / TOKENIZER)
        if self.renderer is not None:
            write_json(self.checkpoints / TOKENIZER / GENERATION_CONFIG, _sampling(self.tokenizer_dir))
            self.renderer.export(self.checkpoints / TOKENIZER)
        seal(self.checkpoints / TOKENIZER)

    def on_checkpoint(self, step: int, directory: Path) -> None:
        write_json(directory / CONFIG, to_config(self.model.config))
        seal(directory / CONFIG)
        if self.model.lora is not None:
            dtype = str(self.model.model.embed_tokens.weight.dtype).removeprefix("torch.")
            base = {"model": str(self.tokenizer_dir.absolute()), "dtype": dtype}
            write_json(directory / LORA, {"base": base, "lora": self.model.lora.model_dump(mode="json")})
            seal(directory / LORA)


def export_checkpoint(checkpoint: Path, directory: Path) -> None:
    """Writes the weights of a checkpoint as a Hugging Face directory.

    Raises UserError if the checkpoint is incomplete, for example because an active run is deleting it.
    """
    try:
        for file in (checkpoint / CONFIG, *(file for file, _ in sealed(checkpoint.parent / TOKENIZER))):
            if reason := damage(file):
                raise UserError(reason)
        model = _model_of(checkpoint)
        tokenizer_dir = checkpoint.parent / TOKENIZER
        save_pretrained(
            model, directory, tokenizer_dir, _sampling(tokenizer_dir), Tokenizer.load(tokenizer_dir).stop_ids
        )
        if (tokenizer_dir / GENERATION_CONFIG).exists():  # includes the chat template written by the stage's renderer
            Renderer.load(tokenizer_dir).export(directory)
    except (OSError, SafetensorError, CheckpointException, UserError) as error:
        raise UserError(
            f"{checkpoint}: cannot be read ({' '.join(str(error).split())}); if the run is active, it may have "
            "deleted this checkpoint, so choose a newer one"
        ) from error


def _model_of(checkpoint: Path) -> Decoder:
    """Returns the model of a checkpoint. A checkpoint of adapters does not contain the frozen weights, so they are
    read from the model from which training started."""
    weights, adapted = read_weights(checkpoint), (checkpoint / LORA).is_file()
    if adapted:
        if reason := damage(checkpoint / LORA):
            raise UserError(reason)
        facts = json.loads((checkpoint / LORA).read_text(encoding="utf-8"))
        model = load_pretrained(Path(facts["base"]["model"]), DTYPES[facts["base"]["dtype"]])
        add_adapters(model, LoraConfig.model_validate(facts["lora"]), seed=0)
    else:
        model = Decoder(read_config(checkpoint))
    wanted = {name for name in model.state_dict() if is_adapter(name) or not adapted}
    if missing := sorted(wanted - weights.keys()):
        raise OSError(f"weight {missing[0]} is missing")
    model.load_state_dict(weights, strict=not adapted, assign=True)
    return merged_decoder(model, model.state_dict()) if adapted else model


def _sampling(tokenizer_dir: Path) -> dict[str, Any]:
    return sampling_settings(tokenizer_dir) or GENERATION
