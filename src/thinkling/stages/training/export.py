"""Exports weights as a Hugging Face directory: the weights of the last step, of the best step, or of any checkpoint."""

from __future__ import annotations

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
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import copy_tokenizer, read_config, save_pretrained, to_config
from thinkling.train.callback import Callback
from thinkling.train.checkpoint import read_weights
from thinkling.train.parallel import Parallel

TOKENIZER, CONFIG = "tokenizer", "config.json"
"""`TOKENIZER` is the directory of the tokenizer's files in a stage's `checkpoints/`. `CONFIG` is the file in each
checkpoint that contains the model's configuration at that step."""
GENERATION = {"temperature": 0.6, "top_p": 0.95, "do_sample": True}
"""Sampling settings that are exported if the model has none."""


def export(
    model: Decoder, directory: Path, tokenizer_dir: Path, parallel: Parallel, renderer: Renderer | None = None
) -> None:
    """Writes a Hugging Face directory. If `renderer` is given, the directory includes its chat template. Sharded
    weights are gathered, and rank 0 writes them."""
    from torch.distributed.tensor import DTensor

    state = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in model.state_dict().items()}
    if parallel.rank == 0:
        whole = model
        if parallel.world_size > 1:
            whole = Decoder(model.config)
            whole.load_state_dict(state, assign=True)
        shutil.rmtree(directory, ignore_errors=True)
        save_pretrained(
            whole, directory, tokenizer_dir, _sampling(tokenizer_dir), Tokenizer.load(tokenizer_dir).stop_ids
        )
        if renderer is not None:
            renderer.export(directory)


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

    def on_checkpoint(self, step: int, path: Path) -> None:
        write_json(path / CONFIG, to_config(self.model.config))
        seal(path / CONFIG)


def export_checkpoint(checkpoint: Path, directory: Path) -> None:
    """Writes the weights of a checkpoint as a Hugging Face directory.

    Raises UserError if the checkpoint is incomplete, for example because an active run is deleting it.
    """
    try:
        for file in (checkpoint / CONFIG, *(file for file, _ in sealed(checkpoint.parent / TOKENIZER))):
            if reason := damage(file):
                raise UserError(reason)
        model = Decoder(read_config(checkpoint))
        weights = read_weights(checkpoint)
        missing = sorted(model.state_dict().keys() - weights.keys())
        if missing:
            raise OSError(f"weight {missing[0]} is missing")
        model.load_state_dict(weights, assign=True)
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


def _sampling(tokenizer_dir: Path) -> dict[str, Any]:
    return sampling_settings(tokenizer_dir) or GENERATION
