"""An early check of samples, which stops a run if all samples are unusable, before hours are spent on generating
more."""

from __future__ import annotations

from collections.abc import Sequence

from thinkling.data.reading import Reading
from thinkling.errors import UserError

FEWEST = 64
"""Minimum number of samples for the check. If this many samples are all unusable, the cause is not chance."""
_LONGEST = 160


def all_unreadable(samples: Sequence[tuple[Reading, bool]], max_new_tokens: int) -> str | None:
    """Returns the reason why none of the samples is usable, with an example and a cure.

    A sample is a pair: the parsed completion, and whether the completion was cut off. The result is None if any sample
    is usable, or if there are fewer than `FEWEST` samples.
    """
    if len(samples) < FEWEST:
        return None
    if all(cut_off for _, cut_off in samples):
        reason = f"all {len(samples)} samples were cut off by max_new_tokens {max_new_tokens}"
        cure = "raise max_new_tokens, or check that the model ends turns the way its chat template does"
    elif not any(reading.well_formed for reading, _ in samples):
        reason = f"none of {len(samples)} samples is well-formed: reasoning that never ends, a broken call or no answer"
        cure = "check that the model was trained with the chat template in its directory"
    else:
        return None
    return f"{reason}; one begins {shortened(samples[0][0].text)!r}; {cure}"


def refuse_unreadable(samples: Sequence[tuple[Reading, bool]], max_new_tokens: int, where: str) -> None:
    """Raises UserError if none of the samples is usable. The error message starts with the recipe field `where`."""
    reason = all_unreadable(samples, max_new_tokens)
    if reason is not None:
        raise UserError(f"{where}: {reason}")


def shortened(text: str) -> str:
    """Returns the text, truncated if it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
