"""Definitions of decoder families by their differences from Llama, one file per family. These files do not import
torch."""

from __future__ import annotations

from thinkling.errors import UserError
from thinkling.model.families.base import Family
from thinkling.plugins import Registry

FAMILIES = Registry(
    "architecture",
    "thinkling.families",
    {
        "llama": "thinkling.model.families.llama:FAMILY",
        "qwen2": "thinkling.model.families.qwen2:FAMILY",
        "qwen3": "thinkling.model.families.qwen3:FAMILY",
        "mistral": "thinkling.model.families.mistral:FAMILY",
        "smollm3": "thinkling.model.families.smollm3:FAMILY",
        "olmo2": "thinkling.model.families.olmo2:FAMILY",
        "phi3": "thinkling.model.families.phi3:FAMILY",
        "granite": "thinkling.model.families.granite:FAMILY",
        "gemma2": "thinkling.model.families.gemma2:FAMILY",
        "gemma3_text": "thinkling.model.families.gemma3:FAMILY",
    },
)
"""Families by the `model_type` of config.json, which is `architecture` in a recipe. A family with several model types
has one entry per model type, so that loading a directory imports only the plug-in that the directory needs."""


def family_of(architecture: str) -> Family:
    """Returns the family of an architecture. Raises UserError if the architecture is unknown, or if a package's entry
    point is not a `Family`."""
    found = FAMILIES.resolve(architecture)
    if not isinstance(found, Family):
        raise UserError(
            f"architecture {architecture!r}: its entry point is {found!r}, which is not a Family; fix the package"
        )
    return found
