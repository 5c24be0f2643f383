"""Selects the rows of an sft run. The sources are either pooled or mixed by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from thinkling.data.conversation_rows import ConversationRows, MixedRows, RowsUsed
from thinkling.data.encoded import EncodedConversations, Group
from thinkling.errors import UserError
from thinkling.progress import Progress, Silent, Task
from thinkling.seeds import derive
from thinkling.stages.sft.config import SftConfig

_OUTCOMES = (
    "conversations", "kept", "overlong_truncated", "overlong_dropped", "without_loss", "unrenderable",
    "turns_without_loss",
)  # fmt: skip


class Rows(NamedTuple):
    """The rows of all complete steps."""

    mixed: MixedRows
    steps: int
    left_over: int
    """Number of rows after the last complete step, which are not used."""


def rows_of(
    config: SftConfig,
    encoded: EncodedConversations,
    seed: int,
    progress: Progress | None = None,
    label: str = "packing",
) -> Rows:
    """Selects the rows of a run.

    Raises UserError if there are fewer rows than one step needs, or if a weight requires too many repeats of a source.
    """
    progress = progress or Silent()
    if config.weighted:
        with progress.track(label, encoded.n, "conversations") as task:
            return _weighted(config, encoded, seed, task)
    pooled = ConversationRows(encoded, range(encoded.n), config.sequence_length, seed, config.epochs)
    with progress.track(label, round(encoded.n * config.epochs), "conversations") as task:
        for n in pooled.pack():
            task.advance(n)
    steps, left_over = _steps(config, pooled.n_rows)
    return Rows(MixedRows([pooled], [1.0], steps * config.batch_size), steps, left_over)


def _weighted(config: SftConfig, encoded: EncodedConversations, seed: int, task: Task) -> Rows:
    """Packs each source separately. All rows have the same length, so the sources' shares of the rows are also their
    shares of the tokens, except for padding."""
    weights = _weights(config, encoded)
    parts = [
        ConversationRows(encoded, group.items, config.sequence_length, derive(seed, group.name))
        for group in encoded.groups
    ]
    for part in parts:
        for n in part.pack(first_epoch=True):
            task.advance(n)
    once = [part.rows_of_first_epoch() for part in parts]
    steps, left_over = _steps(config, int(config.epochs * sum(once)))
    mixed = MixedRows(parts, weights, steps * config.batch_size)
    limit = max(config.max_repeats, config.epochs)
    for group, rows, used in zip(encoded.groups, once, mixed.rows_of_part, strict=True):
        if used > limit * rows + 1:  # row counts may differ from a source's share by one row
            raise UserError(
                f"examples: {group.name}: its weight repeats the source {used / rows:.1f} times in {steps} steps, "
                f"but max_repeats allows {limit:g}; lower the weight or epochs, add data, or raise max_repeats"
            )
    return Rows(mixed, steps, left_over)


def _weights(config: SftConfig, encoded: EncodedConversations) -> Sequence[float]:
    """Returns the weights in the order of the groups, which is also the order in the recipe: examples, then the input
    conversations."""
    weights = [examples.weight for examples in config.examples]
    weights += [config.conversations_weight] if "conversations" in config.inputs else []
    assert len(weights) == len(encoded.groups)
    return [weight for weight in weights if weight is not None]


def _steps(config: SftConfig, n_rows: int) -> tuple[int, int]:
    """Returns the number of steps, and the number of rows after the last complete step."""
    steps = min(n_rows // config.batch_size, config.max_steps or n_rows)
    if not steps:
        raise UserError(
            f"batch_size {config.batch_size}: only {n_rows} rows are available; lower batch_size, or use more examples "
            "or epochs"
        )
    return steps, n_rows - steps * config.batch_size


def counts_of(config: SftConfig, encoded: EncodedConversations, rows: Rows) -> Mapping[str, Any]:
    """Returns record counts for the manifest: in total, and `by_source`."""
    made, used = encoded.info["counts"], rows.mixed.used()
    sums = {name: sum(entry.get(name, 0) for entry in made.values()) for name in _OUTCOMES}
    given = sum(made[name]["conversations"] for name in encoded.info["given"])
    tokens = sum(one.tokens for one in used.values())
    return {
        "conversations": sums["conversations"],
        "from_examples": sums["conversations"] - given,
        "from_conversations": given,
        **{name: n for name, n in sums.items() if name != "conversations"},
        "rows": rows.mixed.n_rows,
        "rows_left_over": rows.left_over,
        "steps": rows.steps,
        "tokens": tokens,
        "loss_tokens": sum(one.loss_tokens for one in used.values()),
        "padding": rows.mixed.n_rows * config.sequence_length - tokens,
        "by_source": {
            group.name: made[group.name] | _given_by(config, rows, group, number, used.get(group.name))
            for number, group in enumerate(encoded.groups)
        },
    }


def _given_by(config: SftConfig, rows: Rows, group: Group, number: int, used: RowsUsed | None) -> dict[str, Any]:
    """Returns the contribution of one source to training. Rows and padding are known only for sources that are packed
    separately."""
    if used is None:
        return {"epochs": 0.0, "tokens": 0, "loss_tokens": 0}
    own = {"epochs": round(used.conversations / group.n, 4), "tokens": used.tokens, "loss_tokens": used.loss_tokens}
    if not config.weighted:
        return own
    n_rows = rows.mixed.rows_of_part[number]
    share = n_rows / rows.mixed.n_rows
    return own | {"rows": n_rows, "padding": n_rows * config.sequence_length - used.tokens, "share": round(share, 6)}
