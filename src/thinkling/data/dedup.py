"""Exact deduplication: of documents whose normalised text is equal, the first stays."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from thinkling.data.documents import Counts, Document, RejectedWriter


def normalise(text: str) -> str:
    """NFC, every run of white space one space, none at the ends. Case stays: in code and symbols it has a meaning."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(text: str) -> bytes:
    """128 bits of SHA-256 of the normalised text: two of 10^9 texts share one by chance with probability 1e-21."""
    return hashlib.sha256(normalise(text).encode()).digest()[:16]


def unique(documents: Iterable[Document], counts: Counts, rejected: RejectedWriter) -> Iterator[Document]:
    """Passes on the first of equal documents, in order; the others go to `rejected` with the id of the first.

    About 150 bytes of memory a document kept.
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
