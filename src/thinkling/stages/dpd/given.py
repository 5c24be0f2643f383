"""Existing preference pairs, encoded in the same way as pairs of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkling.data.chat_template import Message
from thinkling.data.conversations import PreferencePair
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.stages.base import StageContext
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.pairs import Pair, Side
from thinkling.stages.training.left_out import LeftOut

REASONS = {
    "equal": "both sides are the same tokens",
    "without_loss": "a side has no token that carries loss",
    "too_long": "longer than sequence_length",
    "evaluated": "it asks a problem that is evaluated",
}


def given_pairs(
    config: DpdConfig, ctx: StageContext, renderer: Renderer, left_out: LeftOut
) -> tuple[list[Pair], dict[str, dict[str, int]]]:
    """Returns the pairs of all sources, and the counts of each source, in which `pairs` equals `kept` plus the rejected
    pairs, which are counted by reason.

    The reasons are `equal` (both sides have the same tokens), `without_loss` (one side has no token that carries loss),
    `too_long` (one side does not fit into a row) and `evaluated` (the pair contains the question of an evaluated
    problem).
    """
    found: list[Pair] = []
    counts: dict[str, dict[str, int]] = {}
    for wanted in config.preferences:
        reasons: Counter[str] = Counter()
        kept = len(found)
        with ctx.progress.track(f"{ctx.name}: {wanted.source}", wanted.n_pairs, "pairs") as task:
            for pair in ctx.sources[wanted.source].pairs(wanted.n_pairs, ctx.seed):
                task.advance()
                encoded = None if left_out.asks(pair.messages) else _encoded(pair, wanted.source, renderer)
                reason = "evaluated" if encoded is None else rejection(encoded, config.sequence_length)
                if encoded is None or reason is not None:
                    reasons[str(reason)] += 1
                    ctx.ledger.note(wanted.source, "preferences", REASONS[str(reason)], {"id": pair.id})
                else:
                    found.append(encoded)
        kept = len(found) - kept
        counts[wanted.source] = {"pairs": kept + reasons.total(), "kept": kept, **dict(sorted(reasons.items()))}
    return found, counts


def rejection(pair: Pair, sequence_length: int) -> str | None:
    """Returns the reason why a pair cannot be trained on, or None if it can."""
    if pair.chosen.tokens == pair.rejected.tokens:
        return "equal"
    if any(all(side.forced) for side in pair.sides):
        return "without_loss"
    if any(len(pair.prompt) + len(side.tokens) > sequence_length for side in pair.sides):
        return "too_long"
    return None


@dataclass(frozen=True)
class _Encoded:
    """A conversation that ends with one side of a pair."""

    ids: np.ndarray
    mask: np.ndarray


def _encoded(pair: PreferencePair, source: str, renderer: Renderer) -> Pair:
    """Encodes a pair. The prompt is the longest beginning that both sides share with the prompt that the model would
    receive. In each side, tokens that the assistant did not write are forced.

    Raises UserError with the pair's id if the template cannot render the pair, or if the template renders earlier
    assistant turns differently when an answer follows, because the prompt and the answer then cannot be separated.
    """
    tools = list(pair.tools) or None
    try:
        prompt = renderer.prompt(pair.messages, tools)
        sides = [_Encoded(*renderer.encode([*pair.messages, *turns], tools)) for turns in (pair.chosen, pair.rejected)]
        earlier = _last_loss(renderer, pair.messages, tools)
    except UserError as error:
        raise UserError(f"sources.{source}: pair {pair.id}: {error}") from error
    start = min(_common(prompt, side.ids) for side in sides)
    if start <= earlier:
        raise UserError(
            f"sources.{source}: pair {pair.id}: chat template {renderer.template.name} renders earlier assistant turns "
            "differently once an answer follows, so prompt and answer cannot be separated; use pairs whose "
            "messages have no reasoning in earlier turns"
        )
    question = next((m["content"] for m in reversed(pair.messages) if m["role"] == "user"), "")
    made = [_side(side, start, renderer) for side in sides]
    return Pair(pair.id, source, question, "", prompt[:start].tolist(), None, *made)


def _side(encoded: _Encoded, start: int, renderer: Renderer) -> Side:
    tokens = encoded.ids[start:].tolist()
    return Side(0, renderer.tokenizer.decode(tokens), tokens, (~encoded.mask[start:]).tolist())


def _last_loss(renderer: Renderer, messages: Sequence[Message], tools: Sequence[Message] | None) -> int:
    """Returns the index of the last token that an assistant wrote in the messages, or -1 if there is none."""
    if not any(message["role"] == "assistant" for message in messages):
        return -1
    return max(np.flatnonzero(renderer.encode(messages, tools)[1]).tolist(), default=-1)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Returns the length of the longest common prefix."""
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
