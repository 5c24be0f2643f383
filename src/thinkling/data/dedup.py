"""Exact deduplication: of all documents that have the same normalised text, keeps only the first."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from thinkling.data.documents import Counts, Document, RejectedWriter


def normalise(text: str) -> str:
    """Returns the text in NFC with white space collapsed and stripped.

    Case is preserved, because it is significant in code and symbols.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(text: str) -> bytes:
    """Returns 128 bits of the SHA-256 of the normalised text.

    The probability of a collision among 10^9 texts is 1e-21.
    """
    return hashlib.sha256(normalise(text).encode()).digest()[:16]


def unique(documents: Iterable[Document], counts: Counts, rejected: RejectedWriter) -> Iterator[Document]:
    """Yields the first of each set of equal documents, in order.

    The duplicates are written to `rejected`, with the id of the first document. Uses about 150 bytes of memory per kept
    document.
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
