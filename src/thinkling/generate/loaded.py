"""A model directory, loaded: everything that is needed to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from thinkling.data.tokenizer import Tokenizer
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
        """`device`: where not given, a GPU where there is one. `dtype`: where not given, fp32 for a model to be
        trained, else that of the weights.

        `trainable`: whether parameters require gradients. A bf16 directory is trained in fp32: most steps at a learning
        rate of 1e-5 are smaller than half a unit in the last place of bf16, and would be lost. Raises UserError where
        the directory holds no model or tokenizer, not the chat template that `chat` asks for, or the renderer is not
        known.
        """
        device = device or default_device()
        found = load_renderer(renderer, directory, chat)
        decoder = (
            load_pretrained(directory, dtype or (torch.float32 if trainable else None))
            .to(device)
            .requires_grad_(trainable)
        )
        return cls(directory, decoder, found, device)
