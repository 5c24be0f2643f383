"""Sources of the conversations of an sft stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from thinkling.data.conversations import Conversation, read_conversations, rounds
from thinkling.seeds import derive
from thinkling.sources.base import Source
from thinkling.stages.sft.config import SftConfig

FILE = "conversations.parquet"


@dataclass(frozen=True)
class Origin:
    """An entry of `examples`, or the input `conversations`."""

    name: str
    """Name of the source or stage in the recipe. ` (2)` is appended if a source is listed a second time."""
    n: int | None
    """Number of conversations, if it is known before they are read."""
    read: Callable[[], Iterator[Conversation]]
    given: bool = False
    """Whether this is the input `conversations`."""
    one_sample_per_round: bool = False
    estimate: Callable[[], float | None] = lambda: None
    """Returns the number of conversations, estimated from file sizes. Used if `n` is not known."""

    @property
    def n_estimated(self) -> float | None:
        """Number of conversations from which the remaining time is estimated, or None if it cannot be estimated."""
        return self.estimate() if self.n is None else self.n

    def conversations(
        self, chosen: Callable[[Iterator[Conversation]], Iterator[Conversation]] = iter
    ) -> Iterator[Conversation]:
        """Yields the conversations to train on, in a fixed order. `chosen` filters the conversations before they are
        split into rounds."""
        for conversation in chosen(self.read()):
            yield from rounds(conversation) if self.one_sample_per_round else [conversation]


def origins(config: SftConfig, sources: Mapping[str, Source], given: Path | None, seed: int) -> list[Origin]:
    """Returns the origins in the order of the recipe, with the input `conversations` last. `given`: the file of this
    input, if there is one."""
    found: list[Origin] = []
    times: Counter[str] = Counter()
    for number, wanted in enumerate(config.examples):
        times[wanted.source] += 1
        own_seed = derive(seed, "examples", number) if number else seed

        def read(wanted=wanted, own_seed=own_seed) -> Iterator[Conversation]:
            return sources[wanted.source].conversations(wanted.n_examples, own_seed, wanted.families)

        name = wanted.source + (f" ({times[wanted.source]})" if times[wanted.source] > 1 else "")

        def estimate(wanted=wanted) -> float | None:
            size = sources[wanted.source].estimated_size("conversations", None, wanted.n_examples, wanted.families)
            return None if size is None or wanted.one_sample_per_round else size.records

        n = None if wanted.one_sample_per_round else wanted.n_examples
        found.append(Origin(name, n, read, one_sample_per_round=wanted.one_sample_per_round, estimate=estimate))
    if given is not None:
        n = pq.read_metadata(given).num_rows
        name = config.inputs["conversations"]
        found.append(Origin(name, n, lambda: read_conversations(given), given=True))
    return found
