"""A first look at samples: what makes all of them worthless is said before hours are spent on more."""

from __future__ import annotations

from collections.abc import Sequence

from thinkling.data.reading import Reading
from thinkling.errors import UserError

FEWEST = 64
"""Samples that have to agree before a cause other than chance is assumed."""
_LONGEST = 160


def all_unreadable(samples: Sequence[tuple[Reading, bool]], max_new_tokens: int) -> str | None:
    """Why none of the samples, (reading, whether it was cut off), can count: the reason, one example and the cure.

    None where some can, and where there are fewer than `FEWEST`.
    """
    if len(samples) < FEWEST:
        return None
    if all(cut_off for _, cut_off in samples):
        reason = f"all {len(samples)} samples were cut off by max_new_tokens {max_new_tokens}"
        cure = "raise max_new_tokens, or check that the model ends its turns as its chat template does"
    elif not any(reading.well_formed for reading, _ in samples):
        reason = f"none of {len(samples)} samples is well-formed: reasoning that never ends, a broken call or no answer"
        cure = "check that the model was trained in the chat template of its directory"
    else:
        return None
    return f"{reason}; one begins {shortened(samples[0][0].text)!r}; {cure}"


def refuse_unreadable(samples: Sequence[tuple[Reading, bool]], max_new_tokens: int, where: str) -> None:
    """Raises UserError naming the field `where`, if none of the samples can count."""
    reason = all_unreadable(samples, max_new_tokens)
    if reason is not None:
        raise UserError(f"{where}: {reason}")


def shortened(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
