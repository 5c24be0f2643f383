"""The tokenize stage: documents → tokenizer and shards.

``tokenizer/`` can be loaded by transformers.AutoTokenizer and includes the chat template.
``shards/<quality>-<source>/`` contains the tokens of the training documents, and ``validation/<quality>-<source>/``
contains the tokens of the validation documents.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from thinkling.data.artifact import directory_digests, hash_of
from thinkling.data.chat_template import OURS
from thinkling.data.documents import number_of_documents, read_documents, row_groups
from thinkling.data.seals import lost
from thinkling.data.shards import Position, ShardWriter
from thinkling.data.tokenizer import IM_END, IM_START, SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.progress import tracked
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.tokenize.encoding import SHARDS, VALIDATION, Job, encode_all, workers_for
from thinkling.stages.tokenize.journal import JOURNAL, Journal, read_journal, write_journal
from thinkling.stages.tokenize.selection import Group, survey, training_sample, validation_documents

TOKENIZER = "tokenizer"
_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
SAVE_SECONDS = 5.0
"""Minimum time between two points from which a killed run can continue."""


def run(config: TokenizeConfig, ctx: StageContext) -> None:
    """Writes the tokens artifact. A killed run continues with the tokenizer and the row groups that it had finished.

    Raises UserError if the documents are missing or cannot be read, or if the tokenizer directory is invalid.
    """
    assert ctx.tokenizer is not None, "the recipe's validation requires a tokenizer for tokenize stages"
    resumed = (ctx.directory / JOURNAL).is_file()
    if not resumed:
        _clear(ctx.directory)
    path = ctx.inputs["documents"].file("documents.parquet")
    n = number_of_documents(path)
    groups = survey(tracked(read_documents(path), ctx.progress, "survey", n, "documents"))
    if not groups:
        raise UserError(f"{path}: contains no documents; check which documents the curate stage rejected")
    validation = validation_documents(groups, config.validation_fraction)
    sample = {} if ctx.tokenizer.path else training_sample(groups, validation, config.training_characters)
    learned = {"documents": len(sample), "characters": sum(sample.values())} if sample else {}
    if resumed:
        if read_journal(ctx.directory).tokenizer != hash_of(directory_digests(ctx.directory / TOKENIZER)):
            raise lost(f"{ctx.directory / TOKENIZER} is corrupt", ctx.directory)
        tokenizer = Tokenizer.load(ctx.directory / TOKENIZER)
    else:
        given = ctx.tokenizer.path
        tokenizer = _trained(path, sample, ctx.tokenizer, ctx) if given is None else _given(given)
        tokenizer.save(ctx.directory / TOKENIZER)
        write_journal(ctx.directory, Journal(hash_of(directory_digests(ctx.directory / TOKENIZER))))
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
    journal = read_journal(ctx.directory)
    size: Counter[str] = Counter(journal.text_bytes)
    done, saved = journal.row_groups, time.monotonic()
    jobs, sizes = _jobs(path, validation)
    workers = workers_for(sum(sum(group.characters) for group in groups.values()))
    with ExitStack() as stack:
        writers: dict[tuple[str, str], ShardWriter] = {}

        def writer_of(part: str, name: str) -> ShardWriter:
            if (part, name) not in writers:
                position = journal.positions.get(f"{part}/{name}", Position())
                new = ShardWriter(ctx.directory / part, name, tokenizer.vocab_size, position=position)
                writers[part, name] = stack.enter_context(new)
            return writers[part, name]

        for key in journal.positions:
            writer_of(*key.split("/"))
        task = stack.enter_context(ctx.progress.track("encode", total, "documents", done=sum(sizes[:done])))
        for encoded in encode_all(path, jobs[done:], ctx.directory / TOKENIZER, workers):
            for one in encoded:
                writer_of(one.part, one.name).add_encoded(one.lengths, one.content)
                size[one.name] += one.text_bytes
            task.advance(sizes[done])
            done += 1
            if time.monotonic() - saved >= SAVE_SECONDS or done == len(jobs):
                for writer in writers.values():
                    writer.save()
                positions = {f"{part}/{name}": writer.position for (part, name), writer in writers.items()}
                write_journal(ctx.directory, Journal(journal.tokenizer, done, dict(size), positions))
                saved = time.monotonic()
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


def _jobs(path: Path, validation: set[int]) -> tuple[list[Job], list[int]]:
    """Returns the row groups to encode, and the number of documents in each."""
    sizes = row_groups(path)
    jobs, first = [], 0
    for number, n in enumerate(sizes):
        jobs.append(Job(number, tuple(i for i in range(n) if first + i in validation)))
        first += n
    return jobs, sizes


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


def _clear(directory: Path) -> None:
    """Removes the files that an interrupted run left."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
