"""tokenize: documents → tokenizer and shards.

``tokenizer/`` can be loaded by transformers.AutoTokenizer, chat template included. ``shards/<quality>-<source>/``
contains the training tokens, ``validation/<quality>-<source>/`` those of the validation documents.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from thinkling.data.chat_template import OURS
from thinkling.data.documents import Document, read_documents
from thinkling.data.shards import ShardWriter
from thinkling.data.tokenizer import IM_END, IM_START, SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.tokenize.selection import Group, group_name, survey, training_sample, validation_documents

TOKENIZER, SHARDS, VALIDATION = "tokenizer", "shards", "validation"
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
_CHARACTERS_PER_BATCH = 1_000_000
_DOCUMENTS_PER_BATCH = 1024


def run(config: TokenizeConfig, ctx: StageContext) -> None:
    """Writes the tokens artifact. An interrupted run starts over, since the stage is short.

    Raises UserError if the documents are missing or unreadable, or the tokenizer directory is unusable.
    """
    assert ctx.tokenizer is not None, "the recipe's validation requires a tokenizer for tokenize stages"
    _clear(ctx.directory)
    path = ctx.inputs["documents"].file("documents.parquet")
    groups = survey(read_documents(path))
    if not groups:
        raise UserError(f"{path}: contains no documents")
    validation = validation_documents(groups, config.validation_fraction)
    if ctx.tokenizer.path is not None:
        tokenizer, learned = _given(ctx.tokenizer.path), {}
    else:
        sample = training_sample(groups, validation, config.training_characters)
        tokenizer = _trained(path, sample, ctx.tokenizer, ctx)
        learned = {"documents": len(sample), "characters": sum(sample.values())}
    tokenizer.save(ctx.directory / TOKENIZER)
    ctx.counts.update(_write_shards(path, groups, validation, tokenizer, ctx))
    ctx.counts.update(vocab_size=tokenizer.vocab_size, tokenizer_trained_on=learned)


def _given(directory: Path) -> Tokenizer:
    """The user's tokenizer with its own chat template, or with ours if it has none but has the ChatML tokens."""
    tokenizer = Tokenizer.load(directory)
    if tokenizer.chat_template is None and tokenizer.has_token(IM_START) and tokenizer.has_token(IM_END):
        return tokenizer.with_chat_template(OURS.source)
    return tokenizer


def _trained(path: Path, sample: dict[int, int], config: TokenizerConfig, ctx: StageContext) -> Tokenizer:
    assert config.vocab_size is not None
    with ctx.progress.track("train tokenizer", sum(sample.values()), "characters") as task:

        def texts() -> Iterator[str]:
            for row, document in enumerate(read_documents(path)):
                taken = sample.get(row, 0)
                if taken:
                    yield from _learnable(document["text"][:taken], document["markup"])
                    task.advance(taken)

        return train_bpe(texts(), config.vocab_size, isolate=config.pattern(), chat_template=OURS.source)


def _learnable(text: str, markup: bool) -> list[str]:
    """The text that is tokenized as ordinary text: pieces of a special token's spelling would be useless to learn."""
    return [part for part in _SPECIAL.split(text) if part] if markup else [text]


def _write_shards(
    path: Path, groups: dict[str, Group], validation: set[int], tokenizer: Tokenizer, ctx: StageContext
) -> dict[str, Any]:
    """Encodes every document into the shards of its group; returns the counts."""
    total = sum(len(group.rows) for group in groups.values())
    size: Counter[str] = Counter()
    with ExitStack() as stack:
        writers: dict[tuple[str, str], ShardWriter] = {}
        task = stack.enter_context(ctx.progress.track("encode", total, "documents"))
        row = 0
        for batch in _batches(read_documents(path)):
            encoded = tokenizer.encode_batch([d["text"] for d in batch], [d["markup"] for d in batch])
            for document, ids in zip(batch, encoded, strict=True):
                part, name = VALIDATION if row in validation else SHARDS, group_name(document)
                if (part, name) not in writers:
                    writer = ShardWriter(ctx.directory / part, name, tokenizer.vocab_size, tokenizer.end_of_text_id)
                    writers[part, name] = stack.enter_context(writer)
                writers[part, name].add(ids)
                size[name] += len(document["text"].encode())
                row += 1
            task.advance(len(batch))
    sources = {name: _counts_of(name, writers, size[name]) for name in groups}
    if sum(entry["in"] for entry in sources.values()) != total:
        raise RuntimeError(f"{total} documents in, {sources} written")
    return {
        "in": total,
        "kept": total,
        "rejected": {},
        "tokens": sum(entry["tokens"] for entry in sources.values()),
        "sources": sources,
    }


def _counts_of(name: str, writers: dict[tuple[str, str], ShardWriter], size: int) -> dict[str, Any]:
    """Documents and tokens (end-of-text included) of a group, and UTF-8 bytes per token over both parts."""
    shards, validation = writers[SHARDS, name], writers.get((VALIDATION, name))
    documents, tokens = (validation.n_documents, validation.n_tokens) if validation else (0, 0)
    return {
        "in": shards.n_documents + documents,
        "documents": shards.n_documents,
        "tokens": shards.n_tokens,
        "validation_documents": documents,
        "validation_tokens": tokens,
        "bytes_per_token": round(size / (shards.n_tokens + tokens), 4),
    }


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Batches of documents, limited in number and in characters to bound memory."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document["text"])
        if len(batch) == _DOCUMENTS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _clear(directory: Path) -> None:
    """Removes leftovers of an interrupted run."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
