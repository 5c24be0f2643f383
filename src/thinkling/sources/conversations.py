"""Source type for the user's own conversations and preference pairs, in the formats of docs/conversations.md."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from thinkling.data.chat_forms import detect
from thinkling.data.chat_forms.fields import RECORD_FIELDS, TURN_FIELDS, FieldMap, without_nulls
from thinkling.data.chat_forms.normal import BadRecord, Chat, Pair, Read
from thinkling.data.ledger import NOT_DRAWN, Ledger
from thinkling.data.seen import SeenNames
from thinkling.errors import UserError
from thinkling.seeds import derive
from thinkling.sources.base import Offer
from thinkling.sources.records import RecordsSource, ending

if TYPE_CHECKING:
    from thinkling.data.conversations import Conversation, PreferencePair
    from thinkling.data.readers import RawRecord
    from thinkling.tasks.problem import Split

SAMPLE = 20
"""Number of records at the start of a file from which its format is detected."""
READER_VERSION = 1
"""Version of the reading code, part of the hash of the stages that use the source. Increment it whenever the same file
would yield different records."""
_ROLES = ("system", "user", "assistant", "tool")


class ConversationsSource(RecordsSource):
    """Conversations for sft, or preference pairs for dpd."""

    type: Literal["conversations"]
    form: detect.Form | Literal["auto"] = "auto"
    """Format of the records. With `auto`, the format of each file is detected from its first records."""
    fields: dict[str, str] = Field(default={})
    """Field name in the format → field name in the file, for records and for their messages, such as `{messages:
    dialog, role: speaker, content: text}`. Not needed if the file uses the standard names."""
    roles: dict[str, str] = Field(default={})
    """Role name in the file → system, user, assistant or tool. Common spellings need not be listed."""
    unanswered: Literal["reject", "cut"] = "reject"
    """How to treat a conversation that has turns after the last assistant turn: `reject` rejects the conversation, and
    `cut` removes those turns, which never carry loss."""

    offers: ClassVar[frozenset[Offer]] = frozenset({"conversations", "pairs"})
    _forms: dict[tuple[str, int, int], detect.Form | None] = PrivateAttr(default_factory=dict)

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, given: dict[str, str]) -> dict[str, str]:
        known = tuple(dict.fromkeys((*RECORD_FIELDS, *TURN_FIELDS)))
        if unknown := sorted(given.keys() - set(known)):
            raise ValueError(f"no format has the field {unknown[0]!r}; use one of {', '.join(known)}")
        return given

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, given: dict[str, str]) -> dict[str, str]:
        if wrong := sorted(set(given.values()) - set(_ROLES)):
            raise ValueError(f"unknown role {wrong[0]!r}; use one of {', '.join(_ROLES)}")
        return given

    def digests(self) -> dict[str, Any]:
        self.forms()
        return {**super().digests(), "reader": READER_VERSION}

    def summary(self) -> str:
        """Returns the number of files and their formats. Raises UserError if a format cannot be detected."""
        counts = Counter(form or "no record" for form in self.forms().values())
        return f"{super().summary()}: {', '.join(f'{n} {form}' for form, n in counts.items())}"

    def forms(self) -> dict[Path, detect.Form | None]:
        """Returns the format of each file, or None for a file of which no record can be parsed.

        Raises UserError if a file's format is unknown, or if its records lack the fields of the format that the recipe
        sets.
        """
        return {file: self._form(file) for file in self.files()}

    def check(
        self, offer: Offer, split: Split | None = None, n: int | None = None, families: Sequence[str] | None = None
    ) -> None:
        """Checks that there is a usable record.

        Reading stops at the first usable record, so this method does not check whether there are `n` records.
        """
        self._check_families(families)
        forms, ledger = self.forms(), Ledger()
        self._check_offer(offer, forms)
        if next(self._sound(forms, ledger), None) is None:
            counts = ledger.counts().get(self.name, {"rejected": {}})["rejected"]
            reasons = ", ".join(f"{reason} {n}" for reason, n in counts.items()) or "its files are empty"
            files = ", ".join(map(str, list(forms)[:3])) + (" …" if len(forms) > 3 else "")
            raise UserError(f"sources.{self.name}: {files}: no record is usable ({reasons}); see docs/conversations.md")

    def first(self) -> Iterator[Conversation]:
        """Yields the files' conversations in order, for inspection, without counting them in the ledger."""
        from thinkling.data.conversations import Conversation

        for name, read in self._sound(self.forms(), Ledger()):
            if isinstance(read, Chat):
                yield Conversation(name, read.messages, self.name, tools=read.tools)

    def conversations(self, n: int | None, seed: int, families: Sequence[str] | None = None) -> Iterator[Conversation]:
        """Yields the files' conversations in order. If `n` is given, yields a random subset of that size.

        The subset is determined by `seed` and preserves the order. Raises UserError if there are fewer than `n`
        conversations, if a file contains pairs, or if families are requested.
        """
        from thinkling.data.conversations import Conversation

        self._check_families(families)
        for name, read in self._drawn("conversations", n, seed):
            assert isinstance(read, Chat)
            yield Conversation(name, read.messages, self.name, tools=read.tools)

    def pairs(self, n: int | None, seed: int) -> Iterator[PreferencePair]:
        """Yields the files' preference pairs, selected in the same way as conversations."""
        from thinkling.data.conversations import PreferencePair

        for name, read in self._drawn("pairs", n, seed):
            assert isinstance(read, Pair)
            yield PreferencePair(name, read.messages, read.chosen, read.rejected, self.name, read.tools)

    def _drawn(self, offer: Offer, n: int | None, seed: int) -> Iterator[tuple[str, Read]]:
        """Yields the selected usable records with their names.

        If `n` is given, the files are read twice, so that the records need not be held in memory.
        """
        forms = self.forms()
        self._check_offer(offer, forms)
        if n is None:
            for item in self._sound(forms, self.ledger):
                self.ledger.keep(self.name)
                yield item
            return
        drawn: list[tuple[int, int]] = []  # (negated hash of seed and number, number) of the n smallest hashes
        total = 0
        for total, _ in enumerate(self._sound(forms, self.ledger), start=1):
            heapq.heappush(drawn, (-derive(seed, "records", total), total))
            if len(drawn) > n:
                heapq.heappop(drawn)
        if total < n:
            raise UserError(
                f"sources.{self.name}: {n} {offer} were requested, but the source has only {total}; request fewer"
            )
        self.ledger.leave_out(self.name, NOT_DRAWN, total - n)
        numbers = {number for _, number in drawn}
        for number, item in enumerate(self._sound(forms, Ledger()), start=1):
            if number in numbers:
                self.ledger.keep(self.name)
                yield item

    def _check_families(self, families: Sequence[str] | None) -> None:
        if families is not None:
            raise UserError(f"sources.{self.name}: conversations have no families; remove families")

    def _check_offer(self, offer: Offer, forms: Mapping[Path, detect.Form | None]) -> None:
        for file, form in forms.items():
            if form is not None and (form == "preference") != (offer == "pairs"):
                raise UserError(
                    f"sources.{self.name}: {file} is in the format {form}, which contains "
                    f"{'pairs' if form == 'preference' else 'conversations'}, not {offer}; use files with {offer}"
                )

    def _sound(self, forms: Mapping[Path, detect.Form | None], ledger: Ledger) -> Iterator[tuple[str, Read]]:
        """Yields the name and content of each usable record. All other records are added to the ledger as rejected."""
        seen, number = SeenNames(), 0
        for file, form in forms.items():
            for record in self.read([file]):
                number += 1
                if record.error or form is None:
                    ledger.reject(self.name, record.origin, record.error, record.raw)
                    continue
                fields = self._fields(record, file)
                try:
                    read = detect.READERS[form](fields, self.unanswered == "cut")
                except BadRecord as bad:
                    ledger.reject(self.name, record.origin, bad.reason, record.fields, bad.detail)
                    continue
                yield seen.unique(self._id(fields, read), number), read

    def _id(self, fields: Mapping[str, Any], read: Read) -> str:
        """Returns the record's own id if it is printable text or an integer, otherwise a hash of its content."""
        own = fields.get("id")
        if isinstance(own, int) and not isinstance(own, bool) and own.bit_length() <= 64:
            return str(own)
        if isinstance(own, str) and own and own.isprintable():
            return own
        text = json.dumps([self.name, *read], ensure_ascii=False, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:16]

    def _fields(self, record: RawRecord, file: Path) -> Mapping[str, Any]:
        fields = record.fields
        if ending(file.name) in (".parquet", ".arrow"):
            fields = without_nulls(fields)
        return FieldMap(self.fields, self.roles).apply(fields)

    def _form(self, file: Path) -> detect.Form | None:
        """Returns the result of `_told_form`, cached within the process until the file changes."""
        found = file.stat()
        state = (str(file), found.st_size, found.st_mtime_ns)
        if state not in self._forms:
            self._forms[state] = self._told_form(file)
        return self._forms[state]

    def _told_form(self, file: Path) -> detect.Form | None:
        readable = (record for record in self.read([file]) if not record.error)
        sample = [self._fields(record, file) for record in islice(readable, SAMPLE)]
        if not sample:
            return None
        form = detect.detect(sample) if self.form == "auto" else self.form
        if form is None or not any(detect.has_marks(record, form) for record in sample):
            wanted = "in any known format" if form is None else f"in the format {form}"
            raise UserError(
                f"sources.{self.name}: {file} has no records {wanted}: its records have {detect.keys_seen(sample)}; "
                f"map the keys in fields, for example {{messages: dialog}} ({detect.known(self.form)})"
            )
        if form in ("messages", "sharegpt") and (turns := detect.turns_of(sample)):
            for name, usual in (("role", ("role", "from")), ("content", ("content", "value", "tool_calls"))):
                if not any(key in turn for turn in turns for key in usual):
                    raise UserError(
                        f"sources.{self.name}: {file}: its messages have no {name}, only {detect.keys_seen(turns)}; "
                        f"map the key in fields, for example {{{name}: {next(iter(turns[0]), '…')}}}"
                    )
        return form
