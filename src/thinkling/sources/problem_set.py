"""Converts the records of files to problems, splits the problems into train and held-out, and removes duplicate
questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from thinkling.errors import UserError
from thinkling.seeds import derive
from thinkling.sources import templates
from thinkling.sources.presets.base import BadRecord, Found, Item, Preset, Record, Step, dig
from thinkling.tasks.problem import HELDOUT_SHARE, Problem, Split, problem_id
from thinkling.verify.registry import why_unverifiable

if TYPE_CHECKING:
    from thinkling.data.readers import RawRecord

MOST_KEYS = 30


@dataclass(frozen=True)
class Reading:
    """Settings for converting records to problems."""

    source: str
    """The source's name in the recipe."""
    preset: Preset
    fields: Mapping[str, str]
    family: str
    """The family of problems whose record does not specify a family."""
    verifier: str
    template: str
    system: str
    tools: tuple[str, ...]
    announce_tools: bool
    seed: int


class Division(Protocol):
    """Decides whether a problem is held out.

    The inputs are the record and a hash of the problem's family and question, as 16 hex digits.
    """

    def __call__(self, digits: str, record: Record) -> bool: ...


@dataclass(frozen=True)
class Entry:
    """A problem, with its solution split at calculator calls if the solution is annotated with them."""

    problem: Problem
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A record that is not a valid problem, or that duplicates another problem."""

    where: str
    reason: str
    record: Any


@dataclass
class ProblemSet:
    """The contents of the files. Every record is in exactly one of `train`, `heldout` and `rejected`."""

    train: list[Entry] = field(default_factory=list)
    heldout: list[Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def of(self, split: Split) -> list[Entry]:
        return self.train if split == "train" else self.heldout

    def reasons(self) -> str:
        """Returns, for example, `; 2 of 10 records rejected (duplicate 2)`; empty if no record was rejected."""
        if not self.rejected:
            return ""
        total = len(self.train) + len(self.heldout) + len(self.rejected)
        counts = Counter(one.reason for one in self.rejected)
        listed = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
        return f"; {len(self.rejected)} of {total} records rejected ({listed})"


def load(
    reading: Reading, records: Iterable[RawRecord], heldout: Iterable[RawRecord], division: Division
) -> ProblemSet:
    """Splits `records` into train and held-out by `division`, and holds out all problems of `heldout`.

    Training problems whose question is also held out, and repeated questions, are rejected. Raises UserError if there
    are records but no problems.
    """
    builder = _Builder(reading)
    for raw in heldout:
        builder.add(raw, lambda digits, record: True)
    for raw in records:
        builder.add(raw, division)
    return builder.finish()


class _Builder:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.found: list[tuple[Entry, str, bool, str, Record]] = []
        self.rejected: list[Rejected] = []
        self.first: Record | None = None

    def add(self, raw: RawRecord, division: Division) -> None:
        if raw.error:
            self.rejected.append(Rejected(raw.origin, raw.error, raw.raw))
            return
        self.first = raw.fields if self.first is None else self.first
        try:
            entry, key, digits = problem_of(self.reading, raw.fields)
        except BadRecord as error:
            self.rejected.append(Rejected(raw.origin, str(error), dict(raw.fields)))
            return
        self.found.append((entry, key, division(digits, raw.fields), raw.origin, raw.fields))

    def finish(self) -> ProblemSet:
        made = ProblemSet(rejected=self.rejected)
        if not self.found and self.rejected:
            keys = ", ".join(list(self.first or ())[:MOST_KEYS]) or "none"
            raise UserError(
                f"sources.{self.reading.source}: no usable problem in its records{made.reasons()}; the first record's "
                f"keys are {keys}; choose a matching preset, or map the keys in fields"
            )
        answers: dict[str, str] = {}
        ids: set[str] = set()
        held = {key for _, key, is_held, _, _ in self.found if is_held}
        for entry, key, is_held, origin, record in self.found:
            reason = ""
            if not is_held and key in held:
                reason = "held out"
            elif key in answers:
                same = answers[key] == entry.problem.answer
                reason = "duplicate" if same else "duplicate with another answer"
            elif entry.problem.id in ids:
                reason = "an id given twice"
            if reason:
                made.rejected.append(Rejected(origin, reason, dict(record)))
                continue
            answers[key] = entry.problem.answer
            ids.add(entry.problem.id)
            (made.heldout if is_held else made.train).append(entry)
        return made


def problem_of(reading: Reading, record: Record) -> tuple[Entry, str, str]:
    """Returns a record's problem, the text that identifies duplicates, and a hash of the family and that text.

    Raises BadRecord if the record is not a problem.
    """
    item = reading.preset.read(Found(record, reading.preset.keys, reading.fields), reading.seed)
    bare = item.bare or item.question
    if not any(character.isalnum() for character in bare):
        raise BadRecord("question has no letter or digit")
    family = item.family or reading.family
    question = templates.fill(reading.template, _values(reading.template, item, record))
    identity = item.identity or item.question
    digits = problem_id(family, identity)
    problem = Problem(
        id=problem_id(f"sources.{reading.source}", item.id) if item.id else digits,  # makes ids unique across sources
        family=family,
        question=question,
        answer=item.answer,
        reasoning=item.solution,
        verifier=reading.verifier,
        tools=reading.tools,
        announce_tools=reading.announce_tools,
        system=item.system or reading.system,
        tests=item.tests,
        hidden_tests=item.hidden_tests,
        setup=item.setup,
        choices=item.choices,
        bare=bare if bare != question else "",
    )
    if why := why_unverifiable(problem):
        raise BadRecord(f"unverifiable: {why}")
    return Entry(problem, item.steps), " ".join(identity.split()), digits


def _values(template: str, item: Item, record: Record) -> dict[str, str]:
    values = {"question": item.question}
    for name in templates.names(template) - {"question"}:
        value = dig(record, name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadRecord(f"no {name}, which the template names" if value is None else f"{name} is not text")
        values[name] = str(value)
    return values


def by_hash(fraction: float | None) -> Division:
    """Returns a division that holds out problems by a hash of family and question.

    The same problems are held out in every recipe, regardless of which other problems are in a file.
    """
    share = HELDOUT_SHARE if fraction is None else fraction

    return lambda digits, record: int(digits, 16) < share * 16**16


def by_field(path: str, values: Sequence[str | int | float]) -> Division:
    """Returns a division that holds out records by their value under a key."""
    wanted = {str(value) for value in values}
    return lambda digits, record: str(dig(record, path)) in wanted


def drawn(entries: Sequence[Entry], n: int | None, seed: int) -> list[Entry]:
    """Returns `n` entries in order, spread as evenly over the families as possible.

    A family with fewer entries than its share contributes all of them.
    """
    if n is None or n >= len(entries):
        return list(entries)
    by_family: dict[str, list[Entry]] = {}
    for entry in entries:
        by_family.setdefault(entry.problem.family, []).append(entry)
    shares = _shares({family: len(found) for family, found in by_family.items()}, n)
    chosen: set[str] = set()
    for family, found in by_family.items():
        mixed = sorted(found, key=lambda entry: derive(seed, "draw", entry.problem.id))
        chosen |= {entry.problem.id for entry in mixed[: shares[family]]}
    return [entry for entry in entries if entry.problem.id in chosen]


def _shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    shares: dict[str, int] = {}
    left = sorted(sizes, key=lambda family: sizes[family])
    while left:
        family = left.pop(0)
        shares[family] = min(sizes[family], n // (len(left) + 1))
        n -= shares[family]
    return shares
