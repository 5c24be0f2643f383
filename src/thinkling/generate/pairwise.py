"""A pairwise model: which of two answers is better, read off the log-odds of its one-token verdict.

No verdict is sampled: the log-odds say more, and cost one forward. Both orders are asked and averaged, which removes
what the model thinks of first and second places. Comparisons run packed, many in one forward, and share no prefix: the
answers come before what all have in common, and a comparison is a few dozen tokens.

Shapes: N tokens of a batch, P comparisons of it, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from thinkling.data.reading import Reading
from thinkling.errors import UserError
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.pairwise_forms import PairwiseForm
from thinkling.generate.renderer import Renderer
from thinkling.model.attention import DocumentLayout, soft_capped
from thinkling.model.decoder import Decoder
from thinkling.verify.preference import LOWEST, Preference

_BATCH_TOKENS = 8192
"""Tokens in one forward, unless a single comparison is longer."""


@dataclass(frozen=True)
class Comparison:
    """Two answers to a question. `answer` None: nothing that could be compared."""

    question: str
    answer: str | None
    reference: str


class Pairwise(Protocol):
    """Says which of two answers is better: a model in this process, or a served one (`ServedJudge`)."""

    def answer(self, reading: Reading) -> str | None:
        """What is compared of a completion; None: nothing readable."""
        ...

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        """Both orders of each comparison. What has no answer is `LOWEST`."""
        ...


class PairwiseModel:
    """A model that answers which of two answers is better, in `form`, without reasoning."""

    def __init__(self, model: Decoder, renderer: Renderer, form: PairwiseForm) -> None:
        """UserError where the two verdicts are not one token each in the model's chat form."""
        self.model, self.renderer, self.form = model, renderer, form
        self.opening, self.verdicts = _verdict_tokens(renderer, form)

    @classmethod
    def of(cls, loaded: LoadedModel, form: PairwiseForm) -> PairwiseModel:
        """A model directory in that role."""
        return cls(loaded.decoder, loaded.renderer, form)

    def answer(self, reading: Reading) -> str | None:
        """What is compared of a completion, in one line if the form asks for that; None: nothing readable."""
        return reading.line if self.form.one_line else reading.answer

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        """Both orders of each comparison; equal ones are asked once and get the same numbers.

        What has no answer, or does not fit the model's context, is `LOWEST`. UserError where a log-odds is no number.
        """
        orders: dict[tuple[str, str, str], int] = {}
        for c in comparisons:
            if c.answer is not None:
                orders.setdefault((c.question, c.answer, c.reference), len(orders))
                orders.setdefault((c.question, c.reference, c.answer), len(orders))
        prompts = {key: self.prompt(*key) for key in orders}
        limit = self.model.config.max_position_embeddings
        fitting = [key for key, prompt in prompts.items() if len(prompt) <= limit]
        found = dict(zip(fitting, self.log_odds([prompts[key] for key in fitting]).tolist(), strict=True))

        def preference(c: Comparison) -> Preference:
            if c.answer is None:
                return LOWEST
            first = found.get((c.question, c.answer, c.reference))
            second = found.get((c.question, c.reference, c.answer))
            return LOWEST if first is None or second is None else Preference(first, second)

        return [preference(c) for c in comparisons]

    def prompt(self, question: str, first: str, second: str) -> tuple[int, ...]:
        """Token ids up to where the verdict comes."""
        turn = {"role": "user", "content": self.form.question(question, first, second)}
        return (*self.renderer.prompt([turn]).tolist(), *self.opening)

    @torch.inference_mode()
    def log_odds(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """ln p(first verdict) − ln p(second verdict) after each prompt: fp64 (P,), in the order of the prompts."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found = np.empty(len(prompts))
        weight = self.model.head[list(self.verdicts)]
        direction_D = (weight[0].double() - weight[1].double()).unsqueeze(1)
        cap = self.model.logit_softcap
        for batch in _batches(order, prompts):
            lengths = [len(prompts[i]) for i in batch]
            tokens = torch.tensor([[token for i in batch for token in prompts[i]]], device=weight.device)
            layout = DocumentLayout.from_lengths([lengths], tokens.shape[1], weight.device)
            last = torch.tensor(lengths, device=weight.device).cumsum(0) - 1
            x_PD = self.model(tokens, layout)[0, last]
            if cap is None:
                odds = (x_PD.double() @ direction_D).squeeze(1)
            else:
                odds = torch.sub(*soft_capped(x_PD.double() @ weight.double().t(), cap).unbind(1))
            found[batch] = odds.cpu().numpy()
        if not np.isfinite(found).all():
            raise UserError("the pairwise model gives log-odds that are not finite; its weights are damaged")
        return found


def _batches(order: Sequence[int], prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    batch, tokens = [], 0
    for i in order:
        if batch and tokens + len(prompts[i]) > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens += len(prompts[i])
    if batch:
        yield batch


def _verdict_tokens(renderer: Renderer, form: PairwiseForm) -> tuple[tuple[int, ...], tuple[int, int]]:
    """What comes between the prompt and the verdict (empty reasoning, with our template), and the two verdicts."""
    user = {"role": "user", "content": "judge"}
    prompt = renderer.prompt([user]).tolist()
    answered = [
        renderer.encode([user, {"role": "assistant", "content": verdict}])[0].tolist() for verdict in form.verdicts
    ]
    places = [i for i, (a, b) in enumerate(zip(*answered, strict=False)) if a != b]
    if len(answered[0]) != len(answered[1]) or len(places) != 1 or answered[0][: len(prompt)] != prompt:
        verdicts = " and ".join(form.verdicts)
        raise UserError(
            f"preference_form: the verdicts {verdicts} are not one token each in the preference model's chat form; "
            "choose another form or another model"
        )
    (at,) = places
    return tuple(answered[0][len(prompt) : at]), (answered[0][at], answered[1][at])
