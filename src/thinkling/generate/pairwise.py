"""A pairwise model judges which of two answers is better. The judgement is the log-odds of the model's one-token
verdict.

The verdict is not sampled, because its log-odds contain more information and cost only one forward pass. Both orders of
the answers are evaluated and averaged, which removes position bias. Many comparisons are packed into one forward pass.
No prefix is shared between comparisons, because the answers precede the text common to all comparisons, and a
comparison is only a few dozen tokens long.

Shapes: N tokens per batch, P comparisons per batch, D hidden.
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
"""Maximum tokens per forward pass, unless a single comparison is longer."""


@dataclass(frozen=True)
class Comparison:
    """An answer to a question, and the reference with which the answer is compared. A missing answer is None and cannot
    be compared."""

    question: str
    answer: str | None
    reference: str


class Pairwise(Protocol):
    """A judge of which of two answers is better: a model in this process, or a served model (`ServedJudge`)."""

    def answer(self, reading: Reading) -> str | None:
        """Returns the part of a completion that is compared; None if the completion has no answer."""
        ...

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        """Judges each comparison in both orders of the two answers. The result for a missing answer is `LOWEST`."""
        ...


class PairwiseModel:
    """A model that is asked, with the prompt of `form`, which of two answers is better, and replies without
    reasoning."""

    def __init__(self, model: Decoder, renderer: Renderer, form: PairwiseForm) -> None:
        """Raises UserError if the two verdicts are not one token each in the model's chat format."""
        self.model, self.renderer, self.form = model, renderer, form
        self.opening, self.verdicts = _verdict_tokens(renderer, form)

    @classmethod
    def of(cls, loaded: LoadedModel, form: PairwiseForm) -> PairwiseModel:
        """Creates a pairwise model from a loaded model directory."""
        return cls(loaded.decoder, loaded.renderer, form)

    def answer(self, reading: Reading) -> str | None:
        """Returns the part of a completion that is compared, on one line if the form requires it; None if there is
        none."""
        return reading.line if self.form.one_line else reading.answer

    def prefer(self, comparisons: Sequence[Comparison]) -> list[Preference]:
        """Judges each comparison in both orders. Equal comparisons are evaluated once and get the same result.

        The result is `LOWEST` if an answer is missing or does not fit into the model's context. Raises UserError if the
        log-odds are not finite.
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
        """Token ids of a comparison, up to the verdict."""
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
            raise UserError(
                "the preference model's log-odds are not finite, so its weights may be corrupt; use a different model"
            )
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
    """Returns the tokens between the prompt and the verdict (in thinkling's template, an empty reasoning block), and
    the two verdict tokens."""
    user = {"role": "user", "content": "judge"}
    prompt = renderer.prompt([user]).tolist()
    answered = [
        renderer.encode([user, {"role": "assistant", "content": verdict}])[0].tolist() for verdict in form.verdicts
    ]
    places = [i for i, (a, b) in enumerate(zip(*answered, strict=False)) if a != b]
    if len(answered[0]) != len(answered[1]) or len(places) != 1 or answered[0][: len(prompt)] != prompt:
        verdicts = " and ".join(form.verdicts)
        raise UserError(
            f"preference_form: the verdicts {verdicts} are not one token each in the preference model's chat format; "
            "choose a different form or model"
        )
    (at,) = places
    return tuple(answered[0][len(prompt) : at]), (answered[0][at], answered[1][at])
