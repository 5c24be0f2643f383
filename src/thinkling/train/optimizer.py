"""AdamW for all parameters, or Muon for the layers' matrices and AdamW for all other parameters.

Decoupled weight decay applies to matrices: all parameters with two or more dimensions except embeddings. An untied head
is therefore decayed, and a tied head is not. Norm gains and biases are not decayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from thinkling.errors import UserError
from thinkling.train.config import OptimizerConfig
from thinkling.train.offload import MOMENTS, HostState
from thinkling.train.parallel import Parallel, layers, shards
from thinkling.train.precision import StochasticAdamW


def orthogonalize(x_NAB: Tensor, iterations: int, eps: float = 1e-7) -> Tensor:
    """Replace the singular values of N matrices by values between about 0.7 and 1.2, so that the matrices are nearly
    orthogonal.

    This is the quintic Newton–Schulz iteration of Jordan (2024), https://kellerjordan.github.io/posts/muon, with the
    same coefficients. As in that work, the iteration runs in bfloat16 on CUDA. On a CPU, it runs in float32, because a
    core without bf16 units takes 25 times as long in bf16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = x_NAB.size(-2) <= x_NAB.size(-1)
    x = x_NAB if wide else x_NAB.mT
    x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Orthogonalized Nesterov momentum (Jordan 2024).

    The updates are mathematically those of `torch.optim.Muon`, which processes the matrices one by one in bfloat16.
    With 0.3M parameters, torch's version takes 285 ms per step on a CPU core, several times as long as the forward and
    backward pass. This version stacks matrices of equal shape and computes in float32, which takes 11 ms.

    `scale`: see `OptimizerConfig.muon_scale`. Every parameter must be a plain 2-D tensor with a gradient.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], *, weight_decay: float, momentum: float, iterations: int, scale: str
    ) -> None:
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
        for p in params:
            by_shape.setdefault((p.shape[0], p.shape[1]), []).append(p)
        groups = []
        for (a, b), same in by_shape.items():
            factor = math.sqrt(max(1.0, a / b)) if scale == "original" else 0.2 * math.sqrt(max(a, b))
            groups.append({"params": same, "factor": factor})
        defaults = {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations}
        super().__init__(groups, defaults)
        for p in params:
            self.state[p]["momentum_buffer"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            params, momentum = group["params"], group["momentum"]
            gradients = [p.grad for p in params]
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_lerp_(buffers, gradients, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
            nesterov_NAB = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))  # pyright: ignore[reportPrivateImportUsage]
            updates = orthogonalize(nesterov_NAB, group["iterations"]).to(params[0].dtype).unbind()
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(params, updates, alpha=-group["lr"] * group["factor"])  # pyright: ignore[reportPrivateImportUsage]


class Optimizer:
    """All optimizers of a model's parameters, behind one interface. bf16 parameters are rounded stochastically.

    Raises UserError for Muon with bf16 parameters, and for Muon with a sharded model, because Muon needs whole
    matrices.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, parallel: Parallel, seed: int = 0) -> None:
        """`seed`: seed of stochastic rounding."""
        self.names = {p: name for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = list(self.names)
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        inner = {id(p) for layer in layers(model) for p in layer.parameters()}

        self.host = HostState(self.parameters[0].device) if config.offload else None
        """Where the moments are, if not on the device."""
        self.stochastic: StochasticAdamW | None = None
        is_bf16 = any(p.dtype == torch.bfloat16 for p in self.parameters)
        muon: list[nn.Parameter] = []
        if config.name == "muon":
            if is_bf16:
                raise UserError(
                    "optimizer.name: muon needs weights in float32; set precision.weights to float32, or use adamw"
                )
            if parallel.world_size > 1:
                raise UserError(
                    "optimizer.name: muon needs whole matrices, but this run shards them over "
                    f"{parallel.world_size} processes; use adamw or one process"
                )
            muon = [p for p in self.parameters if p.ndim == 2 and id(p) in inner]
            if not muon:
                raise UserError("optimizer.name: muon found no matrices in the model's layers; use adamw")
        taken = {id(p) for p in muon}
        rest = [p for p in self.parameters if id(p) not in taken]
        decayed = [p for p in rest if p.ndim >= 2 and id(p) not in embeddings]
        bare = [p for p in rest if not (p.ndim >= 2 and id(p) not in embeddings)]

        self.optimizers: list[torch.optim.Optimizer] = []
        if muon:
            optimizer = Muon(
                muon,
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
                iterations=config.muon_iterations,
                scale=config.muon_scale,
            )
            self.optimizers.append(optimizer)
        if rest:
            scale = config.adamw_lr_scale if muon else 1.0
            groups = [
                {"params": params, "weight_decay": decay, "lr_scale": scale}
                for params, decay in ((decayed, config.weight_decay), (bare, 0.0))
                if params
            ]
            if is_bf16:
                self.stochastic = StochasticAdamW(
                    groups, betas=config.betas, eps=config.eps, seed=seed, rank=parallel.shard_rank, host=self.host
                )
                self.optimizers.append(self.stochastic)
                return
            adamw = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)
            zeros_like = torch.zeros_like if self.host is None else self.host.zeros_like
            for p in rest:
                # AdamW would create these tensors at its first step, but loading a checkpoint needs them earlier.
                adamw.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": zeros_like(p),
                    "exp_avg_sq": zeros_like(p),
                }
            self.optimizers.append(adamw)

    def gradients(self) -> dict[nn.Parameter, Tensor]:
        """Return this rank's parts of all existing gradients."""
        found = {p: p.grad for p in self.parameters if p.grad is not None}
        return dict(zip(found, shards(list(found.values())), strict=True))

    def step(
        self, lr: float, gradients: Mapping[nn.Parameter, Tensor] | None = None, scale: float | None = None
    ) -> None:
        """Update every parameter with its gradient times `scale`.

        For bf16 parameters, `gradients` may replace `.grad`. For all other parameters, `.grad` is multiplied in place.
        """
        gradients = gradients or self.gradients()
        self._set_lr(lr)
        if self.stochastic is not None:
            self.stochastic.apply(gradients, 1.0 if scale is None else scale)
            return
        if scale is not None:
            torch._foreach_mul_(list(gradients.values()), scale)  # pyright: ignore[reportPrivateImportUsage]
        if self.host is not None:
            self._apply_adamw(gradients)
            return
        for optimizer in self.optimizers:
            optimizer.step()

    def step_on_device(
        self, lr: float, gradients: Mapping[nn.Parameter, Tensor], scale: Tensor, usable: Tensor
    ) -> None:
        """`step` for AdamW with a scale (fp64) that is still being computed on the device. Nothing changes unless
        `usable` (bool) turns out to be true. The host waits for neither of them."""
        self._set_lr(lr)
        if self.stochastic is not None:
            self.stochastic.apply(gradients, scale, usable)
            return
        self._apply_adamw(gradients, (1.0 / scale).float(), (~usable).float())

    def _apply_adamw(
        self,
        gradients: Mapping[nn.Parameter, Tensor],
        divisor: Tensor | None = None,
        unusable: Tensor | None = None,
    ) -> None:
        """AdamW of fp32 parameters with the gradients divided by `divisor`, unless `unusable` is 1."""
        (optimizer,) = self.optimizers
        for group in optimizer.param_groups:
            params = [p for p in group["params"] if p in gradients]
            weights = dict(zip(params, shards([p.detach() for p in params]), strict=True))
            states = {p: optimizer.state[p] for p in params}
            steps = [state["step"] for state in states.values()]
            if self.host is None:
                whole = [list(weights.values()), [gradients[p] for p in params]]
                whole += [shards([state[key] for state in states.values()]) for key in MOMENTS]
                _adamw(group, whole, steps, divisor, unusable)
                continue
            counted: dict[nn.Parameter, Tensor] = {}
            for part in self.host.stream(states):
                pieces = [[x.of(weights[x.parameter]) for x in part], [x.of(gradients[x.parameter]) for x in part]]
                # Every piece of a parameter counts the update, and the parameter counts it once.
                counts = [states[x.parameter]["step"].clone() for x in part]
                _adamw(group, [*pieces, [x.mean for x in part], [x.square for x in part]], counts, divisor, unusable)
                counted |= zip((x.parameter for x in part), counts, strict=True)
            torch._foreach_copy_(steps, [counted[p] for p in params])  # pyright: ignore[reportPrivateImportUsage]

    @property
    def waits_for_host(self) -> bool:
        """Whether an update needs the scale of the gradients on the host: on a CPU, and with Muon."""
        has_muon = any(isinstance(optimizer, Muon) for optimizer in self.optimizers)
        return has_muon or self.parameters[0].device.type == "cpu"

    def undo_step(self, gradients: Mapping[nn.Parameter, Tensor]) -> None:
        """Take back the count of an update by `step_on_device` that was not usable."""
        if self.stochastic is not None:
            self.stochastic.undo_step(gradients)

    def _set_lr(self, lr: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state itself rather than copies, as `<parameter name>.<exp_avg | exp_avg_sq | step |
        momentum_buffer>`."""
        if self.host is not None:
            self.host.wait()
        return {
            f"{self.names[p]}.{key}": value
            for optimizer in self.optimizers
            for p in self.parameters
            for key, value in optimizer.state.get(p, {}).items()
        }


def _adamw(
    group: Mapping[str, Any],
    tensors: Sequence[list[Tensor]],
    steps: list[Tensor],
    divisor: Tensor | None,
    unusable: Tensor | None,
) -> None:
    """torch's fused AdamW. `tensors`: weights, gradients, and both moments."""
    weights, gradients, means, squares = tensors
    adamw(
        weights,
        gradients,
        means,
        squares,
        [],
        steps,
        fused=True,
        grad_scale=divisor,
        found_inf=unusable,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
