"""The tokenize stage: documents → tokenizer and shards.

``tokenizer/`` can be loaded by transformers.AutoTokenizer and includes the chat template.
``shards/<quality>-<source>/`` contains the tokens of the training documents, and ``validation/<quality>-<source>/``
contains the tokens of the validation documents.
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
from thinkling.data.documents import Document, number_of_documents, read_documents
from thinkling.data.shards import ShardWriter
from thinkling.data.tokenizer import IM_END, IM_START, SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.progress import tracked
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.tokenize.selection import Group, group_name, survey, training_sample, validation_documents

TOKENIZER, SHARDS, VALIDATION = "tokenizer", "shards", "validation"
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
_CHARACTERS_PER_BATCH = 1_000_000
_DOCUMENTS_PER_BATCH = 1024


def run(config: TokenizeConfig, ctx: StageContext) -> None:
    """Writes the tokens artifact. An interrupted run starts over, because the stage is short.

    Raises UserError if the documents are missing or cannot be read, or if the tokenizer directory is invalid.
    """
    assert ctx.tokenizer is not None, "the recipe's validation requires a tokenizer for tokenize stages"
    _clear(ctx.directory)
    path = ctx.inputs["documents"].file("documents.parquet")
    n = number_of_documents(path)
    groups = survey(tracked(read_documents(path), ctx.progress, "survey", n, "documents"))
    if not groups:
        raise UserError(f"{path}: contains no documents; check which documents the curate stage rejected")
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
    """Loads the user's tokenizer. If it has no chat template but has the ChatML tokens, thinkling's chat template is
    added."""
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
    """Returns the parts of a text that are tokenized as ordinary text. If the text has markup, special tokens are
    excluded, because a tokenizer would otherwise learn useless pieces of their spelling."""
    return [part for part in _SPECIAL.split(text) if part] if markup else [text]


def _write_shards(
    path: Path, groups: dict[str, Group], validation: set[int], tokenizer: Tokenizer, ctx: StageContext
) -> dict[str, Any]:
    """Encodes every document into the shards of its group and returns the counts."""
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
    """Returns the documents and tokens (including end-of-text tokens) of a group, and its UTF-8 bytes per token over
    training and validation shards."""
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
    """Yields batches of documents. The number of documents and characters per batch is limited to bound memory use."""
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
    """Removes the files that an interrupted run left."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
