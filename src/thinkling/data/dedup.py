"""Exact deduplication: keeps the first of the documents with the same normalised text."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from thinkling.data.documents import Counts, Document, RejectedWriter


def normalise(text: str) -> str:
    """NFC, white space collapsed and stripped. Case is kept: it is significant in code and symbols."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(text: str) -> bytes:
    """128 bits of SHA-256 of the normalised text: 10^9 texts have a collision with probability 1e-21."""
    return hashlib.sha256(normalise(text).encode()).digest()[:16]


def unique(documents: Iterable[Document], counts: Counts, rejected: RejectedWriter) -> Iterator[Document]:
    """Yields the first of each set of equal documents, in order; the others go to `rejected` with the first one's id.

    Uses about 150 bytes of memory per kept document.
    """
    first: dict[bytes, str] = {}
    for document in documents:
        counts.received += 1
        key = fingerprint(document["text"])
        if key in first:
            counts.reject("duplicate")
            rejected.write(document, "duplicate", f"of {first[key]}")
            continue
        first[key] = document["id"]
        counts.kept += 1
        yield document
