"""One training loop for pre-training, SFT, DPD and RL. Only the objective depends on the content of batches.

An objective takes the model and one micro-batch, and returns (sum of the loss over the loss tokens of the micro-batch,
number of these tokens, sums to be logged). The trainer divides the gradient once, by the number of loss tokens in all
micro-batches of all ranks. Splitting a batch into micro-batches or over ranks therefore changes only rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinkling.errors import UserError
from thinkling.model.lora import set_dtype
from thinkling.train.average import WeightAverage
from thinkling.train.blocks import prepare_layers
from thinkling.train.callback import SKIPPED, Callback, SavedCheckpoint, StepMetrics
from thinkling.train.checkpoint import WEIGHTS, Checkpoints
from thinkling.train.config import OptimizerConfig, PrecisionConfig, Recompute
from thinkling.train.float8 import use_float8
from thinkling.train.optimizer import Optimizer
from thinkling.train.parallel import Parallel
from thinkling.train.precision import DTYPES, computing, norm_of
from thinkling.train.spikes import SpikeGuard

Objective = Callable[[nn.Module, Any], tuple[Tensor, int, Mapping[str, float | Tensor]]]
"""Function of a model and a micro-batch. It returns the sum of the losses (a scalar with a gradient, even if there are
no loss tokens), the number of loss tokens, and sums to log by name (numbers or scalar tensors, always with the same
names). An objective must call the model (`model(…)`) before it uses any of the model's weights, because sharding hooks
into that call."""


class Trainer:
    """A model, its optimizer and an objective. With several ranks, the trainer shards the model in place."""

    def __init__(
        self,
        model: nn.Module,
        optimizer_config: OptimizerConfig,
        objective: Objective,
        parallel: Parallel | None = None,
        precision: PrecisionConfig | None = None,
        seed: int = 0,
        recompute: Recompute = "none",
        compiled: bool = False,
    ) -> None:
        """Cast the model to `precision.weights`, in place, except for adapters. `seed`: seed of stochastic rounding.
        `recompute` and `compiled`: see `prepare_layers`."""
        self.parallel = parallel or Parallel()
        precision = precision or PrecisionConfig()
        self.compute = DTYPES[precision.compute]
        set_dtype(model.to(self.parallel.device), DTYPES[precision.weights])
        if precision.float8 is not None:
            use_float8(model, precision.float8)
        prepare_layers(model, recompute, compiled)
        self.model = self.parallel.shard(model, self.compute)
        self.optimizer = Optimizer(self.model, optimizer_config, self.parallel, seed)
        self.objective = objective
        self.clip_norm = optimizer_config.clip_norm
        self.guard: SpikeGuard | None = None
        """Decides which steps are skipped. Without a guard, a loss or gradient that is not finite is an error."""
        self.average: WeightAverage | None = None
        """Mean of the weights, which is updated as a callback and stored in checkpoints."""

    def step(self, micro_batches: Sequence[Any], lr: float) -> StepMetrics:
        """Update the model with this rank's micro-batches. Every rank must have the same number of micro-batches.

        A step that the guard refuses changes neither the weights nor the optimizer state. Without a guard, this method
        raises UserError, without changing the weights, if the loss or the gradient is not finite. It always does so if
        no rank has a loss token.
        """
        losses: list[Tensor] = []
        n_tokens = 0
        totals: dict[str, float | Tensor] = {}
        sums_in_fp32: dict[nn.Parameter, Tensor] = {}
        for batch in micro_batches:
            with computing(self.model, self.compute):
                sum_loss, n, metrics = self.objective(self.model, batch)
                sum_loss.backward()  # in this context, because recomputation needs the same copies of the weights
            if self.optimizer.stochastic is not None and len(micro_batches) > 1:
                self._add_gradients(sums_in_fp32)
            losses.append(sum_loss.detach())
            n_tokens += n
            for name, value in metrics.items():
                value = value.detach() if isinstance(value, Tensor) else value
                totals[name] = totals.get(name, 0.0) + value

        gradients = sums_in_fp32 or self.optimizer.gradients()
        names = sorted(totals)
        on_device = self._sum_over_ranks(losses, n_tokens, list(gradients.values()), [totals[name] for name in names])
        usable = self._usable(on_device)
        early = not self.optimizer.waits_for_host
        if early:  # before the host waits for the sums, so that the GPU need not wait for the host
            self.optimizer.step_on_device(lr, gradients, self._scale_on_device(on_device), usable)
        is_usable, sum_loss, n_tokens, square, *sums = torch.cat((usable.double().view(1), on_device)).tolist()
        norm = math.sqrt(square) / n_tokens if n_tokens else math.nan
        if not is_usable:
            if early:
                self.optimizer.undo_step(gradients)
            self.optimizer.zero_grad()
            if self.guard is None or not n_tokens:
                raise UserError(_fault(sum_loss, n_tokens, norm))
            self.guard.refuse(norm, sum_loss / n_tokens)
            found = dict(zip(names, sums, strict=True))
            return StepMetrics(sum_loss / n_tokens, norm, int(n_tokens), found, True, self.guard.n_skipped)
        if not early:
            scale = 1.0 / n_tokens
            if self.clip_norm is not None and norm > self.clip_norm:
                scale *= self.clip_norm / norm
            self.optimizer.step(lr, gradients, scale)
        self.optimizer.zero_grad()
        if self.guard is not None:
            self.guard.accept(norm, sum_loss / n_tokens)
        n_skipped = None if self.guard is None else self.guard.n_skipped
        found = dict(zip(names, sums, strict=True))
        return StepMetrics(sum_loss / n_tokens, norm, int(n_tokens), found, n_skipped=n_skipped)

    def dry_run(self, micro_batches: Sequence[Any]) -> None:
        """Compute the gradients of a step and discard them. Nothing changes: neither weights, optimizer state, spike
        guard nor random numbers. Every rank must call this method with the same number of micro-batches.

        On a GPU, AdamW runs an update that changes nothing, so that its kernels are compiled.
        """
        sums_in_fp32: dict[nn.Parameter, Tensor] = {}
        for batch in micro_batches:
            with computing(self.model, self.compute):
                self.objective(self.model, batch)[0].backward()
            if self.optimizer.stochastic is not None and len(micro_batches) > 1:
                self._add_gradients(sums_in_fp32)
        gradients = sums_in_fp32 or self.optimizer.gradients()
        if not self.optimizer.waits_for_host:
            device = self.parallel.device
            scale, usable = torch.ones((), dtype=torch.float64, device=device), torch.zeros((), device=device) > 0
            self.optimizer.step_on_device(0.0, gradients, scale, usable)
            self.optimizer.undo_step(gradients)
        self.optimizer.zero_grad()

    def skip(self) -> StepMetrics:
        """Return the metrics of a step without a batch."""
        if self.guard is None:
            return SKIPPED
        if self.guard.config.action == "roll_back":
            self.guard.pass_over()
            return StepMetrics(math.nan, math.nan, 0, {}, True, self.guard.n_skipped)
        return replace(SKIPPED, n_skipped=self.guard.n_skipped)

    def _add_gradients(self, sums: dict[nn.Parameter, Tensor]) -> None:
        """Add the gradients of a micro-batch to fp32 sums and clear them. bf16 sums would lose later gradients."""
        for p, gradient in self.optimizer.gradients().items():
            sums[p] = sums[p].add_(gradient) if p in sums else gradient.float()
        self.optimizer.zero_grad()

    def _sum_over_ranks(
        self, losses: list[Tensor], n_tokens: int, gradients: list[Tensor], totals: list[float | Tensor]
    ) -> Tensor:
        """Return [sum of losses, loss tokens, squared norm of the summed gradient, *totals] over all ranks, in fp64.

        These are all values that the host needs, for one transfer from the device. The squared norms of the shards can
        be added, because each rank has different elements; with replicas, each shard is on several ranks.
        """
        # get_total_norm would return the norm of bf16 tensors in bf16.
        in_bf16 = any(gradient.dtype == torch.bfloat16 for gradient in gradients)
        norm = norm_of(gradients) if in_bf16 else torch.nn.utils.get_total_norm(gradients)
        device = self.parallel.device
        square = norm.double().square() / self.parallel.config.replicas
        values = [torch.stack(losses).sum(dtype=torch.float64), n_tokens, square, *totals]
        on_device = [
            v.to(torch.float64) if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64, device=device)
            for v in values
        ]
        return self.parallel.all_reduce_sum(torch.stack(on_device))

    def _usable(self, sums: Tensor) -> Tensor:
        """Return whether loss and gradient are finite and within the guard's limits (bool, on the device)."""
        sum_loss, n_tokens, square = sums[:3].unbind()
        norm = square.sqrt() / n_tokens
        usable = torch.isfinite(sum_loss) & torch.isfinite(norm)
        if self.guard is not None:
            most = self.guard.limits()
            usable = usable & (norm <= most[0]) & (sum_loss / n_tokens <= most[1])
        return usable

    def _scale_on_device(self, sums: Tensor) -> Tensor:
        """Return the factor of the gradients (fp64)."""
        _, n_tokens, square = sums[:3].unbind()
        scale = 1.0 / n_tokens
        if self.clip_norm is not None:
            scale = scale * (self.clip_norm / (square.sqrt() / n_tokens)).clamp(max=1.0)
        return scale

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the weights and the optimizer state by name, without copying: checkpoints are written from these
        tensors and read into them. Frozen weights are not part of the state, because training does not change them."""
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        weights = {name: value for name, value in self.model.state_dict().items() if name not in frozen}
        state = {WEIGHTS + name: value for name, value in weights.items()}
        state |= {f"optimizer.{name}": value for name, value in self.optimizer.state_tensors().items()}
        for part in (self.guard, self.average):
            state |= part.state_tensors() if part is not None else {}
        return state


def _fault(sum_loss: float, n_tokens: float, norm: float) -> str:
    if n_tokens == 0:
        return "the batch of this step has no loss tokens; check the loss masks of the batch's source"
    return (
        f"training diverged (loss {sum_loss / n_tokens}, gradient norm {norm}); lower the optimizer's lr; the last "
        "checkpoint is intact"
    )


def fit(
    trainer: Trainer,
    batches: Callable[[int], Sequence[Any] | None],
    lr: Callable[[int], float],
    total_steps: int,
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback] = (),
    first_step: int = 0,
) -> int:
    """Train up to `total_steps`, starting from the last checkpoint if there is one, otherwise from `first_step`. Return
    the step from which training started.

    Steps are counted from 0. `batches(step)`, `lr(step)` and any changes that callbacks make to the model must depend
    only on the step. A run that was killed and resumed then equals an uninterrupted run, bit for bit on a CPU. If the
    batch of a step is None, it must be None on all ranks, and the step does not update the model. A checkpoint is
    written every `checkpoints.every_steps` steps and after the last step. All checkpoints are complete when this
    function returns, or raises an exception on all ranks.
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
                add_files = partial(_add_files, callbacks, step)
                checkpoints.save(done, trainer.state_tensors(), trainer.parallel, add_files)
            _report(checkpoints.finished(), callbacks)
    finally:
        try:
            checkpoints.close()
            _report(checkpoints.finished(), callbacks)
        finally:
            for callback in callbacks:
                callback.on_end()
    return first


def _add_files(callbacks: Sequence[Callback], step: int, directory: Path) -> None:
    for callback in callbacks:
        callback.on_checkpoint(step, directory)


def _report(saved: Sequence[SavedCheckpoint], callbacks: Sequence[Callback]) -> None:
    for one in saved:
        for callback in callbacks:
            callback.on_checkpoint_saved(one)


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
    metrics = trainer.skip() if micro_batches is None else trainer.step(micro_batches, rate)
    for callback in callbacks:
        callback.on_step(step, metrics, rate)
