"""Selects the validation documents and the text on which a tokenizer is trained.

Both selections are based on a hash of each document's id. They do not depend on the seed or on the order of the
documents.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Group:
    """The documents of one source and quality, in file order: row number, hash of the id, number of characters."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    characters: array[int] = field(default_factory=lambda: array("q"))

    def by_hash(self) -> list[int]:
        """Returns positions in the group, ordered by hash."""
        return sorted(range(len(self.rows)), key=lambda i: (self.hashes[i], self.rows[i]))


def group_name(document: Mapping[str, Any]) -> str:
    """Returns ``<quality>-<source>``, which is the group's name in the mixture of a phase."""
    return f"{document['quality']}-{document['source']}"


def survey(documents: Iterable[Mapping[str, Any]]) -> dict[str, Group]:
    """Reads all documents once and records the data on which the selections are based, 24 bytes per document. Groups
    are sorted by name."""
    groups: dict[str, Group] = {}
    for row, document in enumerate(documents):
        group = groups.setdefault(group_name(document), Group())
        group.rows.append(row)
        group.hashes.append(int.from_bytes(hashlib.sha256(document["id"].encode()).digest()[:8], "big"))
        group.characters.append(len(document["text"]))
    return dict(sorted(groups.items()))


def validation_documents(groups: Mapping[str, Group], fraction: float) -> set[int]:
    """Returns the row numbers of the validation documents: in each group of n documents, the ⌊fraction · n⌋ documents
    with the smallest hashes."""
    chosen: set[int] = set()
    for group in groups.values():
        chosen.update(group.rows[i] for i in group.by_hash()[: int(fraction * len(group.rows))])
    return chosen


def training_sample(groups: Mapping[str, Group], validation: set[int], characters: int) -> dict[int, int]:
    """Returns a mapping from row number to the number of characters to take from the start of the document. Validation
    documents are excluded.

    Each group contributes the same number of characters. If a group has fewer characters, the other groups share the
    remainder.
    """
    orders = {n: [i for i in g.by_hash() if g.rows[i] not in validation] for n, g in groups.items()}
    sizes = {name: sum(groups[name].characters[i] for i in order) for name, order in orders.items()}
    sample: dict[int, int] = {}
    for name, budget in share_out(sizes, characters).items():
        for i in orders[name]:
            taken = min(budget, groups[name].characters[i])
            if taken == 0:
                break
            sample[groups[name].rows[i]] = taken
            budget -= taken
    return sample


def share_out(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Splits ``total`` equally among groups. Each share is capped at the group's size, and the remainder is split among
    the other groups."""
    shares: dict[str, int] = {}
    left = total
    for position, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], item[0]))):
        shares[name] = min(size, left // (len(sizes) - position))
        left -= shares[name]
    return shares
