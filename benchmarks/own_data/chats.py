"""Whether conversations are read identically from every form, and whether every damaged record is accounted for.

own-data.chats: 1,000 generated conversations and 1,000 pairs are written in every form that can express them, as JSON
Lines, JSON, compressed and Parquet files, and read back without a mapping; counted are those whose token ids or loss
spans differ from the original's in some form. own-data.chats-fuzz: of 100,000 damaged records per form, those that are
neither kept nor rejected, or are kept but cannot be rendered or stored; a crash counts as all records of its form.
Last line: JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.own_data import generated, mutations, writers
from thinkling.data.chat_template import OURS, Message
from thinkling.data.conversations import Conversation, PreferencePair, checked
from thinkling.data.ledger import Ledger
from thinkling.data.tokenizer import train_bpe
from thinkling.generate.renderer import Renderer
from thinkling.sources.base import bound
from thinkling.sources.conversations import ConversationsSource

CONVERSATIONS, FUZZED, SEED = 1000, 100_000, 8
RENDERED_OF_FUZZED = 20
"""One in this many kept records among the damaged ones is rendered."""
Encoded = tuple[bytes, bytes]


def renderer() -> Renderer:
    """Our chat template with a tokenizer of a few hundred tokens."""
    texts = [" ".join((*generated.PLAIN, *generated.NAMES)), "system user assistant tools name arguments function\n"]
    return Renderer(train_bpe(texts * 20, 380), OURS)


def source(path: Path, ledger: Ledger | None = None, **fields: Any) -> ConversationsSource:
    """A source with one file, as a recipe would configure it."""
    made = ConversationsSource.model_validate({"type": "conversations", "path": str(path), **fields})
    bound({"chats": made})
    if ledger is not None:
        made.report_to(ledger)
    return made


_ENCODED: dict[str, Encoded] = {}


def encoded(shown: Renderer, messages: Sequence[Message], tools: Sequence[Message]) -> Encoded:
    """Token ids and loss mask as bytes, cached by content."""
    said = json.dumps([messages, tools])
    if said not in _ENCODED:
        ids, loss = shown.encode(messages, tools or None)
        _ENCODED[said] = ids.tobytes(), np.packbits(loss).tobytes()
    return _ENCODED[said]


def sides(shown: Renderer, pair: PreferencePair) -> tuple[Encoded, Encoded]:
    """Both encoded continuations of a pair."""
    chosen, rejected = ([*pair.messages, *side] for side in (pair.chosen, pair.rejected))
    return encoded(shown, chosen, pair.tools), encoded(shown, rejected, pair.tools)


def write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Writes records to a file of the type that its name indicates."""
    match path.name.partition(".")[2]:
        case "json":
            path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
        case "parquet":
            columns = dict.fromkeys(key for record in records for key in record)  # tables take columns from row 1
            pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns) | record for record in records]), path)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(_lines(records)))
        case _:
            path.write_bytes(_lines(records))


def _lines(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def files_of(form: str, records: Sequence[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """Writes the records to a file of each type. Columns of a table have one type, and absent values become null, so
    forms with arguments as objects are not written to tables."""
    kinds = ["jsonl", "json", "jsonl.gz"] + ["parquet"] * (form in ("openai", "sharegpt", "alpaca"))
    for kind in kinds:
        path = folder / f"{form}.{kind}"
        write(path, records)
        yield path


def differing(shown: Renderer, n: int, folder: Path) -> tuple[set[str], Counter[str]]:
    """Names of the conversations and pairs that were read back differently, and the number compared per form."""
    rng = random.Random(SEED)
    chats = {f"c{i}": generated.conversation(rng) for i in range(n)}
    pairs = {f"p{i}": generated.pair(rng) for i in range(n)}
    wanted: dict[str, Any] = {name: encoded(shown, *chat) for name, chat in chats.items()}
    wanted |= {name: sides(shown, PreferencePair(name, *pair[:3], "", pair[3])) for name, pair in pairs.items()}
    written = {form: [(name, writer(*chat)) for name, chat in chats.items()] for form, writer in writers.CHATS.items()}
    written |= {form: [(name, writer(pair)) for name, pair in pairs.items()] for form, writer in writers.PAIRS.items()}
    wrong: set[str] = set()
    compared: Counter[str] = Counter()
    for form, records in written.items():
        sayable = [{"id": name, **record} for name, record in records if record is not None]
        compared[form] = len(sayable)
        for path in files_of(form, sayable, folder):
            found = dict(read(shown, path, form in writers.PAIRS))
            off = {record["id"] for record in sayable if found.get(record["id"]) != wanted[record["id"]]}
            if off:
                print(f"{path.name}: {len(off)} differ, for example {min(off)}")
            wrong |= off
    return wrong, compared


def read(shown: Renderer, path: Path, is_pairs: bool) -> Iterator[tuple[str, Any]]:
    """Name and tokens of every item in a file."""
    made = source(path)
    if is_pairs:
        yield from ((pair.id, sides(shown, pair)) for pair in made.pairs(None, 0))
    else:
        yield from ((chat.id, encoded(shown, chat.messages, chat.tools)) for chat in made.conversations(None, 0))


FORMS: dict[str, tuple[str, ...]] = {
    "messages": ("openai", "hugging_face", "parts", "llama_factory_v1", "inline", "function_call"),
    "sharegpt": ("sharegpt", "mixed"),
    "alpaca": ("alpaca",),
    "prompt_completion": ("prompt_text", "prompt_messages"),
    "preference": tuple(writers.PAIRS),
}


def sound_records(form: str, n: int, rng: random.Random) -> list[dict[str, Any]]:
    """Records of a form, in all its variants."""
    records: list[dict[str, Any]] = []
    while len(records) < n:
        name = rng.choice(FORMS[form])
        if name in writers.PAIRS:
            record = writers.PAIRS[name](generated.pair(rng))
        else:
            record = writers.CHATS[name](*generated.conversation(rng))
        records += [record] if record is not None else []
    return records


def lost(shown: Renderer, form: str, n: int, folder: Path) -> tuple[int, dict[str, Any]]:
    """Number of damaged records that are not accounted for, and the counts."""
    rng = random.Random(f"{SEED} {form}")
    sound = sound_records(form, 500, rng)
    path, ledger = folder / f"{form}.jsonl", Ledger(folder / f"{form}.rejected.jsonl")
    with path.open("wb") as file:
        file.writelines(mutations.mutated(rng.choice(sound), rng) + b"\n" for _ in range(n))
    made = source(path, ledger, form=form)
    bad = 0
    try:
        for number, item in enumerate(made.pairs(None, 0) if form == "preference" else made.conversations(None, 0)):
            bad += not is_usable(item, shown if number % RENDERED_OF_FUZZED == 0 else None)
    except Exception as error:  # whatever it is: a damaged record must not stop a run
        print(f"{form}: {type(error).__name__}: {error}")
        return n, {}
    counts = ledger.counts()["chats"]
    written = sum(1 for _ in (folder / f"{form}.rejected.jsonl").open(encoding="utf-8"))
    off = abs(n - counts["kept"] - written) + abs(written - sum(counts["rejected"].values()))
    return bad + off, counts


def is_usable(item: Conversation | PreferencePair, shown: Renderer | None) -> bool:
    """Whether a kept record has the normal form, can be stored and, if requested, rendered."""
    ends = [()] if isinstance(item, Conversation) else [item.chosen, item.rejected]
    chats = [[*item.messages, *end] for end in ends]
    try:
        for messages in chats:
            json.dumps([checked(messages), list(item.tools), item.id], ensure_ascii=False, allow_nan=False).encode()
            if shown is not None:
                shown.encode(messages, item.tools or None)
    except Exception as error:
        print(f"{item.id}: {type(error).__name__}: {str(error)[:200]}")
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    parser.add_argument("--fuzzed", type=int, default=FUZZED, help="damaged records per form")
    parser.add_argument("--reasons", action="store_true", help="print the counts per reason")
    options = parser.parse_args()
    shown = renderer()
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        wrong, compared = differing(shown, options.conversations, Path(name))
        print(f"{options.conversations} conversations and pairs each: {len(wrong)} differ, compared {dict(compared)}")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        losses: dict[str, int] = {}
        for form in FORMS:
            start = time.perf_counter()
            losses[form], counts = lost(shown, form, options.fuzzed, Path(name))
            rejected: dict[str, int] = counts.get("rejected", {})
            reasons = sorted(rejected, key=lambda reason: -rejected[reason])
            print(f"{form}: kept {counts.get('kept')}, rejected for {len(reasons)} reasons")
            if options.reasons:
                print("\n".join(f"  {rejected[reason]:7d} {reason}" for reason in reasons))
            print(f"{time.perf_counter() - start:.0f} s", flush=True)
    measurements = {
        "own-data.chats": {
            "value": len(wrong),
            "n": 2 * options.conversations,
            "runs": [len(wrong)],
            "unit": "conversations",
            "compared": dict(compared),
        },
        "own-data.chats-fuzz": {
            "value": sum(losses.values()),
            "n": len(FORMS) * options.fuzzed,
            "runs": list(losses.values()),
            "unit": "records",
        },
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
