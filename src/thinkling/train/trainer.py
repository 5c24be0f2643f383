"""One loop for pre-training, SFT, DPD and RL. It knows batches only through an objective.

An objective takes the model and one micro-batch and returns (sum of the loss over its loss tokens, number of those
tokens, sums of whatever is to be logged). The trainer divides the gradient once, by the number of loss tokens of all
micro-batches of all ranks: cutting a batch differently, over micro-batches or ranks, changes nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.train.callback import SKIPPED, Callback, StepMetrics
from thinkling.train.checkpoint import WEIGHTS, Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig
from thinkling.train.optimizer import Optimizer
from thinkling.train.parallel import Parallel
from thinkling.train.precision import DTYPES, computing, norm_of

Objective = Callable[[nn.Module, Any], tuple[Tensor, int, Mapping[str, float | Tensor]]]
"""(model, micro-batch) → (sum of losses: scalar with a gradient, also where it sums nothing; number of loss tokens;
sums to log: numbers or scalar tensors, always under the same names). It must call the model itself (`model(…)`), on
which sharding hangs, before it uses any weight of it."""


class Trainer:
    """A model, its optimizer and an objective. With several ranks the model is sharded, in place, here."""

    def __init__(
        self,
        model: nn.Module,
        optimizer_config: OptimizerConfig,
        objective: Objective,
        parallel: Parallel | None = None,
        precision: PrecisionConfig | None = None,
        seed: int = 0,
    ) -> None:
        """The model becomes one of `precision.weights`, in place. `seed`: of stochastic rounding."""
        self.parallel = parallel or Parallel()
        precision = precision or PrecisionConfig()
        self.compute = DTYPES[precision.compute]
        self.model = self.parallel.shard(model.to(DTYPES[precision.weights]), self.compute)
        self.optimizer = Optimizer(self.model, optimizer_config, self.parallel, seed)
        self.objective = objective
        self.clip_norm = optimizer_config.clip_norm

    def step(self, micro_batches: Sequence[Any], lr: float) -> StepMetrics:
        """One update from this rank's micro-batches, of which every rank must have the same number.

        Raises UserError, with the weights as they were, if the loss or the gradient is not finite, or no token of any
        rank bears a loss.
        """
        losses: list[Tensor] = []
        n_tokens = 0
        totals: dict[str, float | Tensor] = {}
        sums_in_fp32: dict[nn.Parameter, Tensor] = {}
        for batch in micro_batches:
            with computing(self.model, self.compute):
                sum_loss, n, metrics = self.objective(self.model, batch)
            sum_loss.backward()
            if self.optimizer.stochastic is not None and len(micro_batches) > 1:
                self._add_gradients(sums_in_fp32)
            losses.append(sum_loss.detach())
            n_tokens += n
            for name, value in metrics.items():
                value = value.detach() if isinstance(value, Tensor) else value
                totals[name] = totals.get(name, 0.0) + value

        gradients = sums_in_fp32 or self.optimizer.gradients()
        names = sorted(totals)
        sum_loss, n_tokens, square, *sums = self._sum_over_ranks(
            losses, n_tokens, list(gradients.values()), [totals[name] for name in names]
        )
        if n_tokens == 0:
            self.optimizer.zero_grad()
            raise UserError("no token of this step's batch bears a loss: check the loss masks of its source")
        norm = math.sqrt(square) / n_tokens
        if not (math.isfinite(sum_loss) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            raise UserError(
                f"training diverged (loss {sum_loss / n_tokens}, gradient norm {norm}): lower the optimizer's lr;"
                " the last checkpoint is whole"
            )
        scale = 1.0 / n_tokens
        if self.clip_norm is not None and norm > self.clip_norm:
            scale *= self.clip_norm / norm
        self.optimizer.step(lr, gradients, scale)
        self.optimizer.zero_grad()
        return StepMetrics(sum_loss / n_tokens, norm, int(n_tokens), dict(zip(names, sums, strict=True)))

    def _add_gradients(self, sums: dict[nn.Parameter, Tensor]) -> None:
        """Moves the gradients of a micro-batch into fp32 sums: added up in bf16, the later ones would be lost."""
        for p, gradient in self.optimizer.gradients().items():
            sums[p] = sums[p].add_(gradient) if p in sums else gradient.float()
        self.optimizer.zero_grad()

    def _sum_over_ranks(
        self, losses: list[Tensor], n_tokens: int, gradients: list[Tensor], totals: list[float | Tensor]
    ) -> list[float]:
        """[sum of losses, loss tokens, squared norm of the summed gradient, *totals] over all ranks.

        Everything that must leave the device leaves it here, at once. The squared norms of the shards add up, since
        each rank holds other elements.
        """
        # Norms of bf16 tensors would themselves be bf16.
        in_bf16 = any(gradient.dtype == torch.bfloat16 for gradient in gradients)
        norm = norm_of(gradients) if in_bf16 else torch.nn.utils.get_total_norm(gradients)
        device = self.parallel.device
        values = [torch.stack(losses).sum(dtype=torch.float64), n_tokens, norm.double().square(), *totals]
        on_device = [
            v.to(torch.float64) if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64, device=device)
            for v in values
        ]
        return self.parallel.all_reduce_sum(torch.stack(on_device)).tolist()

    def state_tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer state by name, the tensors themselves: what a checkpoint writes from and reads into."""
        state = {WEIGHTS + name: value for name, value in self.model.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in self.optimizer.state_tensors().items()}
        return state


def fit(
    trainer: Trainer,
    batches: Callable[[int], Sequence[Any] | None],
    lr: Callable[[int], float],
    total_steps: int,
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback] = (),
    first_step: int = 0,
) -> int:
    """Train up to `total_steps`, from `first_step` or the last checkpoint if there is one; returns where it began.

    Steps count from 0. `batches(step)`, `lr(step)` and what callbacks do to the model must depend on the step alone:
    then a killed and resumed run equals an uninterrupted one, bit for bit on CPU. A step whose batch is None, on all
    ranks alike, updates nothing. A checkpoint is written every `checkpoints.every_steps` steps and after the last.
    """
    first = first_step
    path = checkpoints.latest(trainer.parallel)
    if path is not None:
        first = checkpoints.load(path, trainer.state_tensors(), trainer.parallel)
    try:
        for callback in callbacks:
            callback.on_start(first)
        for step in range(first, total_steps):
            _step(trainer, batches, lr, step, callbacks)
            done = step + 1
            if done == total_steps or done % checkpoints.every_steps == 0:
                path = checkpoints.save(done, trainer.state_tensors(), trainer.parallel)
                for callback in callbacks:
                    callback.on_checkpoint(step, path)
    finally:
        for callback in callbacks:
            callback.on_end()
    return first


def _step(
    trainer: Trainer,
    batches: Callable[[int], Sequence[Any] | None],
    lr: Callable[[int], float],
    step: int,
    callbacks: Sequence[Callback],
) -> None:
    for callback in callbacks:
        callback.before_step(step)
    micro_batches = batches(step)
    rate = 0.0 if micro_batches is None else lr(step)
    metrics = SKIPPED if micro_batches is None else trainer.step(micro_batches, rate)
    for callback in callbacks:
        callback.on_step(step, metrics, rate)
