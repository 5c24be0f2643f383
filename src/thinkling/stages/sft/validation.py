"""The validation split, on which the loss is measured during training. The conversations of the split are stored in
validation.parquet, and their tokens in a separate directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from thinkling.data.conversation_rows import ConversationRows
from thinkling.data.conversations import Conversation, ConversationsWriter
from thinkling.data.encoded import EncodedConversations, EncodedWriter
from thinkling.data.packing import PackedBatch, lay_conversations
from thinkling.errors import UserError
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.fitting import Encode, Fitted, fit

FILE = "validation.parquet"
"""Conversations of the validation split, without the turns that are removed from overlong conversations."""
DIRECTORY = "encoded_validation"
"""Directory of the encoded validation split inside the stage's directory; deleted when the stage ends."""


class ValidationWriter:
    """Context manager that writes the conversations of the validation split, which are encoded one by one in the same
    way as for training. `note` is called for conversations that cannot be measured."""

    def __init__(
        self, config: SftConfig, directory: Path, encode: Encode, note: Callable[[str, Fitted, str], None]
    ) -> None:
        """`directory`: the stage's directory."""
        self.n_measured = self.n_left_out = 0
        self._config, self._encode, self._note = config, encode, note
        self._encoded = EncodedWriter(directory / DIRECTORY)
        self._conversations = ConversationsWriter(directory / FILE)
        self._stack = ExitStack()

    def __enter__(self) -> ValidationWriter:
        self._stack.enter_context(self._encoded)
        self._stack.enter_context(self._conversations)
        self._encoded.begin("validation")
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def add(self, origin: str, conversation: Conversation) -> None:
        """Adds the next conversation drawn for validation."""
        fitted = fit(conversation, self._encode, self._config)
        if fitted.is_kept:
            self.n_measured += 1
            self._encoded.add(fitted.ids, fitted.loss)
            self._conversations.add(fitted.conversation)
        else:
            self.n_left_out += 1
            self._note(origin, fitted, "drawn for validation")


def validation_batches(
    config: SftConfig, ctx: StageContext, n_drawn: int, rows: int, pad_id: int
) -> Callable[[], Iterator[PackedBatch]] | None:
    """Returns a function that reads the validation conversations from disk, packed in batches of `rows` rows. Returns
    None if the stage does not use a validation split.

    Raises UserError if none of the `n_drawn` conversations can be measured.
    """
    if not config.validation_fraction:
        return None
    encoded = EncodedConversations(ctx.directory / DIRECTORY)
    if not encoded.n:
        raise UserError(
            f"validation_fraction {config.validation_fraction}: none of the {n_drawn} conversations drawn for "
            "validation is usable (rejected.jsonl lists the reasons); raise validation_fraction or sequence_length"
        )
    packed = ConversationRows(encoded, range(encoded.n), config.sequence_length, derive(ctx.seed, "validation"), 1.0)

    def batches() -> Iterator[PackedBatch]:
        for start in range(0, packed.n_rows, rows):
            chosen = [packed.row(i) for i in range(start, min(start + rows, packed.n_rows))]
            laid = [[encoded.read(int(item)) for item in items] for items in chosen]
            yield lay_conversations(laid, config.sequence_length, pad_id)

    return batches
