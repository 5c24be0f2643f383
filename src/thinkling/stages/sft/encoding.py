"""Streams all conversations of an sft stage to conversations.parquet, and their tokens to a separate directory."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from thinkling.data.atomic import replacing
from thinkling.data.conversations import Conversation, write_conversations
from thinkling.data.encoded import EncodedConversations, EncodedWriter, is_whole
from thinkling.data.encoded import damage as encoded_damage
from thinkling.data.ledger import FILE as LEDGER
from thinkling.data.seals import digest_of
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.progress import Task
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.fitting import Fitted, encoder, fit
from thinkling.stages.sft.origins import FILE, Origin, origins
from thinkling.stages.sft.spans import FILE as SPANS
from thinkling.stages.sft.spans import SpansSample
from thinkling.stages.sft.validation import DIRECTORY as VALIDATION
from thinkling.stages.sft.validation import FILE as VALIDATION_FILE
from thinkling.stages.sft.validation import ValidationWriter
from thinkling.stages.training.left_out import LeftOut
from thinkling.train.parallel import Parallel

DIRECTORY = "encoded"
"""Directory of the encoded conversations inside the stage's directory; deleted when the stage ends."""
_REPORT_EVERY = 64
REASONS = {
    "overlong_dropped": "longer than sequence_length",
    "without_loss": "no token carries loss",
    "unrenderable": "the chat template cannot write it whole",
}


def restore_ledger(ctx: StageContext, parallel: Parallel) -> None:
    """Restores the counts of a killed run that completed encoding, before any source counts its records again. If a
    file written by encoding is corrupt, everything is encoded again."""
    directory = ctx.directory / DIRECTORY
    if parallel.rank == 0 and directory.exists() and (reason := _damage(ctx.directory)):
        ctx.progress.warn(f"{reason}; encoding again")
        shutil.rmtree(directory)
    parallel.barrier()
    if is_whole(directory):
        encoded = EncodedConversations(directory)
        ctx.ledger.restore(encoded.info["ledger"])
        encoded.close()


def _damage(stage: Path) -> str | None:
    """Describes the first file in the stage's directory that differs from the file that encoding wrote. Returns None if
    there is no difference."""
    for directory in (stage / DIRECTORY, stage / VALIDATION):
        if reason := encoded_damage(directory):
            return reason
    encoded = EncodedConversations(stage / DIRECTORY)
    encoded.close()
    for name, entry in encoded.info["beside"].items():
        path = stage / name
        if not path.is_file():
            return f"{path}: is missing"
        if digest_of(path, entry["bytes"]) != entry:  # files of rejected records may grow
            return f"{path}: is corrupt"
    return None


def encoded_conversations(
    config: SftConfig, ctx: StageContext, renderer: Renderer, left_out: LeftOut, parallel: Parallel
) -> EncodedConversations:
    """Returns the conversations to train on, which rank 0 encodes once. If a killed run completed encoding, its results
    are reused. Sets the counts of excluded conversations in `left_out`.

    Raises UserError if there is no conversation to train on, in total or in a source that has a weight.
    """
    directory = ctx.directory / DIRECTORY
    again = is_whole(directory)
    if parallel.rank == 0 and not again:
        given = ctx.inputs.get("conversations")
        found = origins(config, ctx.sources, None if given is None else given.file(FILE), ctx.seed)
        _Encoding(config, ctx, renderer, left_out).write(directory, found)
    # Poll instead of waiting at a barrier, because encoding may take longer than the timeout of collectives.
    while not is_whole(directory):
        time.sleep(0.2)
    encoded = EncodedConversations(directory)
    left_out.n_conversations = encoded.info["evaluated"]
    left_out.n_validation, left_out.n_unmeasured = encoded.info["validation"]
    _check_left(config, encoded)
    return encoded


class _Encoding:
    """One pass over all conversations."""

    def __init__(self, config: SftConfig, ctx: StageContext, renderer: Renderer, left_out: LeftOut) -> None:
        self.config, self.ctx, self.encode, self.left_out = config, ctx, encoder(renderer), left_out
        self.counts: dict[str, Counter[str]] = {}
        self.shortest: int | None = None
        self.sample = SpansSample(renderer.tokenizer, derive(ctx.seed, "spans"))

    def write(self, directory: Path, found: Sequence[Origin]) -> None:
        """Writes conversations.parquet, spans.jsonl and, last, the directory of tokens."""
        numbers = [origin.n_estimated for origin in found]
        total = None if None in numbers else sum(n for n in numbers if n is not None)
        with EncodedWriter(directory) as writer:
            with (
                ValidationWriter(self.config, self.ctx.directory, self.encode, self._note) as validation,
                self.ctx.progress.track(f"{self.ctx.name}: encoding", total, "conversations") as task,
            ):
                with replacing(self.ctx.directory / FILE) as temporary:
                    write_conversations(temporary, self._all(found, writer, validation, task))
                self.sample.write(self.ctx.directory)
            beside = [self.ctx.directory / name for name in (FILE, SPANS, VALIDATION_FILE, LEDGER)]
            writer.info = {
                "counts": self.counts,
                "given": [origin.name for origin in found if origin.given],
                "shortest": self.shortest,
                "evaluated": self.left_out.n_conversations,
                "validation": (validation.n_measured, validation.n_left_out),
                "ledger": self.ctx.ledger.counts(),
                "beside": {path.name: digest_of(path) for path in beside if path.is_file()},
            }

    def _all(
        self, found: Sequence[Origin], writer: EncodedWriter, validation: ValidationWriter, task: Task
    ) -> Iterator[Conversation]:
        for origin in found:
            writer.begin(origin.name)
            counts = self.counts[origin.name] = Counter(conversations=0, kept=0)
            chosen = partial(self.left_out.training, validate=partial(validation.add, origin.name))
            for conversation in origin.conversations(chosen):
                self._take(conversation, origin.name, counts, writer)
                yield conversation
                if counts["conversations"] % _REPORT_EVERY == 0:
                    task.advance(_REPORT_EVERY)
            task.advance(counts["conversations"] % _REPORT_EVERY)

    def _take(self, conversation: Conversation, origin: str, counts: Counter[str], writer: EncodedWriter) -> None:
        fitted = fit(conversation, self.encode, self.config)
        counts["conversations"] += 1
        if fitted.is_kept:
            counts["kept"] += 1
            counts["turns_without_loss"] += fitted.turns_without_loss
            writer.add(fitted.ids, fitted.loss)
            self.sample.offer(origin, fitted)
        if fitted.outcome != "kept":
            counts[fitted.outcome] += 1
        if fitted.outcome == "overlong_dropped":
            self.shortest = min(len(fitted.ids), self.shortest or len(fitted.ids))
        if not fitted.is_kept:
            self._note(origin, fitted, FILE)

    def _note(self, origin: str, fitted: Fitted, where: str) -> None:
        record: dict[str, Any] = {"id": fitted.conversation.id, "tokens": len(fitted.ids)}
        self.ctx.ledger.note(origin, where, REASONS[fitted.outcome], record, fitted.detail)


def _check_left(config: SftConfig, encoded: EncodedConversations) -> None:
    counts = encoded.info["counts"]
    where = f"examples: {', '.join(counts)}"
    if not sum(entry["conversations"] for entry in counts.values()):
        raise UserError(f"{where}: no conversations were found; check families, n_examples, or the source's files")
    for name, entry in counts.items():
        if config.weighted and not entry["kept"]:
            raise UserError(
                f"examples: {name}: no conversation is left to train on ({_spelled(entry)}); remove the entry"
            )
    if encoded.n:
        return
    if any(entry.get("unrenderable") for entry in counts.values()):
        total = sum(map(Counter, counts.values()), Counter[str]())
        raise UserError(
            f"unrenderable: no conversation is left to train on ({_spelled(total)}); {LEDGER} lists why the "
            "chat template cannot render the conversations"
        )
    if encoded.info["shortest"] is None:
        raise UserError(f"{where}: no conversation has an assistant turn with loss; check the source's files")
    raise UserError(
        f"sequence_length {config.sequence_length}: all conversations are longer; raise it to at least "
        f"{encoded.info['shortest']}, the length of the shortest conversation"
    )


def _spelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
