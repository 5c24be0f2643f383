"""Checks that reject records with images, audio or video, and records with a label instead of a pair of replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinkling.data.chat_forms.normal import BadRecord, is_empty

_MEDIA = ("image", "images", "audio", "audios", "video", "videos")


def check_media(record: Mapping[str, Any]) -> None:
    """Raises BadRecord if the record has images, audio or video."""
    if found := next((name for name in _MEDIA if not is_empty(record.get(name))), None):
        raise BadRecord("images, audio or video", found)


def check_unlabelled(record: Mapping[str, Any]) -> None:
    """Raises BadRecord for a KTO record, which is a completion labelled as liked or disliked.

    A model must not be trained on disliked completions.
    """
    if record.get("kto_tag") is not None or isinstance(record.get("label"), bool):
        raise BadRecord("a completion with a label, as for KTO: not a pair")
