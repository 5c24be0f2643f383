"""Loading of a model directory, with everything that is needed to sample from the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.config import ChatConfig
from thinkling.generate.renderer import Renderer, load_renderer
from thinkling.model.decoder import Decoder
from thinkling.model.device import default_device
from thinkling.model.huggingface import load_pretrained


@dataclass(frozen=True)
class LoadedModel:
    """Decoder, tokenizer and renderer of one Hugging Face directory, on one device."""

    directory: Path
    decoder: Decoder
    renderer: Renderer
    device: torch.device

    @property
    def tokenizer(self) -> Tokenizer:
        return self.renderer.tokenizer

    @classmethod
    def load(
        cls,
        directory: Path,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        trainable: bool = False,
        renderer: str = "chat",
        chat: ChatConfig | None = None,
    ) -> LoadedModel:
        """Loads the directory. `device`: by default a GPU, if one is available. `dtype`: by default fp32 for a
        trainable model, otherwise the dtype of the weights.

        `trainable`: whether parameters require gradients. A model stored in bf16 is trained in fp32, because at a
        learning rate of 1e-5 most updates are smaller than half a unit in the last place of bf16 and would be lost.
        Raises UserError if the directory has no model or tokenizer, if it lacks the chat template that `chat` asks for,
        or if the renderer is unknown.
        """
        device = device or default_device()
        found = load_renderer(renderer, directory, chat)
        decoder = (
            load_pretrained(directory, dtype or (torch.float32 if trainable else None))
            .to(device)
            .requires_grad_(trainable)
        )
        if trainable:
            _check_embedded(found, decoder, directory)
        return cls(directory, decoder, found, device)


def _check_embedded(renderer: Renderer, decoder: Decoder, directory: Path) -> None:
    """Raises UserError if the padding token, or an end-of-turn or end-of-text token, has no row in the embedding."""
    rows, tokenizer = decoder.config.known_vocab_size, renderer.tokenizer
    for what, token, cure in (
        ("padding", tokenizer.pad_id, "set a different pad_token in tokenizer_config.json, such as the eos_token"),
        ("the end of a turn", max(tokenizer.stop_ids), "resize it with resize_token_embeddings of transformers"),
    ):
        if token >= rows:
            raise UserError(
                f"{directory}: the token for {what} has id {token}, but the embedding has only {rows} rows; {cure}"
            )
