"""The real documents of $THINKLING_DATA/corpus, for the benchmarks of packing and tokenizing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from thinkling.errors import UserError

FIELDS = ("text", "raw_content")


def documents() -> dict[str, list[str]]:
    """The texts of each JSON Lines file of the corpus, in order.

    Raises UserError if $THINKLING_DATA is not set or has no corpus.
    """
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("THINKLING_DATA is not set; set it to the folder of real data")
    found: dict[str, list[str]] = {}
    for path in sorted(Path(data).glob("corpus/**/*.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        texts = [next((r[name] for name in FIELDS if r.get(name)), "") for r in records]
        found[path.stem] = [text for text in texts if text]
    if not any(found.values()):
        raise UserError(f"{data}/corpus: has no documents in JSON Lines; set THINKLING_DATA to the folder of real data")
    return found
