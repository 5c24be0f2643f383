"""A served model that judges which of two answers is better: the counterpart of `PairwiseModel` for served models.

Servers have no common way to return log-odds, so the verdict is parsed from the model's reply. Each pair is judged in
both orders: an answer that the model prefers in both orders is clearly better; if the model prefers a different answer
in each order, the two answers count as equally good.
"""

from __future__ import annotations

from collections.abc import Sequence

from thinkling.data.reading import Reading
from thinkling.generate.backends import Replier, Reply
from thinkling.generate.engine import Sampling
from thinkling.generate.pairwise import Comparison
from thinkling.generate.pairwise_forms import PairwiseForm
from thinkling.generate.unreadable import Readings
from thinkling.verify.preference import LOWEST, Preference

CERTAIN = 700.0
"""Log-odds assigned to a written verdict. They make the reward 1 or 0, up to rounding."""
FIELD = "judge"


class ServedJudge:
    """Implements `Pairwise` with a model that replies in text."""

    def __init__(self, model: Replier, form: PairwiseForm, max_new_tokens: int) -> None:
        self.model, self.form, self.max_new_tokens = model, form, max_new_tokens
        self.readings = Readings()

    def answer(self, reading: Reading) -> str | None:
        """See `Pairwise.answer`."""
        return reading.line if self.form.one_line else reading.answer

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        """See `Pairwise.prefer`. A reply without a verdict counts in favour of neither answer."""
        orders: dict[tuple[str, str, str], float] = {}
        for c in comparisons:
            if c.answer is not None:
                orders[c.question, c.answer, c.reference] = orders[c.question, c.reference, c.answer] = 0.0
        asked = [[{"role": "user", "content": self.form.question(*order)}] for order in orders]
        replies = self.model.reply(asked, [0] * len(asked), Sampling(0.0, 1.0), self.max_new_tokens) if asked else []
        for order, reply in zip(orders, replies, strict=True):
            verdict = read_verdict(reply, self.form)
            self.readings.add(FIELD, reply, None if verdict is not None else _why(reply), order[0])
            orders[order] = 0.0 if verdict is None else CERTAIN * (1 - 2 * verdict)

        def preference(c: Comparison) -> Preference:
            if c.answer is None:
                return LOWEST
            return Preference(orders[c.question, c.answer, c.reference], orders[c.question, c.reference, c.answer])

        return [preference(c) for c in comparisons]


def read_verdict(reply: Reply, form: PairwiseForm) -> int | None:
    """Returns 0 if the reply prefers the first answer and 1 if it prefers the second; None if the reply is not exactly
    one of the verdicts."""
    said = reply.text.strip().strip("*\"'`.").strip()
    return form.verdicts.index(said) if said in form.verdicts and reply.finish_reason == "stop" else None


def _why(reply: Reply) -> str:
    if reply.finish_reason != "stop":
        return "cut off"
    return "no verdict" if reply.text.strip() else "empty"
