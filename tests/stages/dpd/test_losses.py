"""The three terms against torch's and TRL's own, and what bears a loss."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from thinkling.model.decoder import Decoder
from thinkling.stages.dpd.batches import pack_pairs
from thinkling.stages.dpd.config import DpdConfig, WeightsConfig
from thinkling.stages.dpd.losses import chunked_kl, dpd_objective, dpo_loss, sequence_log_probs
from thinkling.stages.dpd.pairs import Pair, Side

CPU = torch.device("cpu")
SUBSETS = [
    dict(zip(("dpo", "kl_chosen", "kl_rejected"), w, strict=True)) for w in itertools.product((0.0, 0.7), repeat=3)
]


def inputs(dtype: torch.dtype = torch.float32, tokens: int = 37, vocab: int = 50):
    generator = torch.Generator().manual_seed(3)
    x, weight, teacher_x, teacher_weight = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((tokens, 12), (vocab, 12), (tokens, 9), (vocab, 9))
    )
    factors = torch.rand(tokens, generator=generator, dtype=torch.float64).to(dtype)
    factors[[0, 5, 6, -1]] = 0
    return x.requires_grad_(), weight.requires_grad_(), teacher_x, teacher_weight, factors


def assert_close(found: torch.Tensor, reference: torch.Tensor) -> None:
    assert (found - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, None])
def test_kl_equals_torch_on_full_logits(chunk: int | None, reverse: bool) -> None:
    x, weight, teacher_x, teacher_weight, factors = inputs()
    student, teacher = F.log_softmax(x @ weight.t(), -1), F.log_softmax(teacher_x @ teacher_weight.t(), -1)
    a, b = (teacher, student) if reverse else (student, teacher)
    each = F.kl_div(a, b, log_target=True, reduction="none").sum(-1)
    reference = (each * factors).sum()
    expected = torch.autograd.grad(reference * 0.3, (x, weight))
    loss, kl = chunked_kl(x, weight, teacher_x, teacher_weight, factors, reverse, chunk)
    assert_close(loss, reference)
    assert_close(kl, each * (factors > 0))
    assert not kl.requires_grad
    for found, wanted in zip(torch.autograd.grad(loss * 0.3, (x, weight)), expected, strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_kl_gradcheck(reverse: bool) -> None:
    x, weight, teacher_x, teacher_weight, factors = inputs(torch.float64, tokens=9, vocab=7)
    assert torch.autograd.gradcheck(
        lambda x, w: chunked_kl(x, w, teacher_x, teacher_weight, factors, reverse, 2)[0], (x, weight)
    )


def test_kl_to_itself_is_nothing() -> None:
    x, weight, *_, factors = inputs()
    loss, _ = chunked_kl(x, weight, x.detach(), weight.detach(), factors)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-5


def test_tokens_without_factor_may_hold_anything() -> None:
    x, weight, teacher_x, teacher_weight, factors = inputs()
    poisoned = x.detach().clone()
    poisoned[factors == 0] = float("nan")
    poisoned.requires_grad_()
    loss, _ = chunked_kl(poisoned, weight, teacher_x, teacher_weight, factors)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (poisoned, weight)))


def test_kl_never_holds_the_logits_of_all_tokens() -> None:
    """The largest tensor that a forward makes is one chunk's."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                Largest.size = max(Largest.size, made.numel())
            return made

    x, weight, teacher_x, teacher_weight, factors = inputs(tokens=200)
    with Largest():
        chunked_kl(x, weight, teacher_x, teacher_weight, factors, chunk=16)[0].backward()
    assert Largest.size <= max(200 * 12, 16 * 50)


def plain_log_probs(model: Decoder, pair: Pair, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities of all tokens at each place of a completion that no tool wrote, those of the tokens)."""
    completion = pair.sides[side]
    ids = torch.tensor(pair.prompt + completion.tokens)
    logits = model.logits(model(ids[None]))[0, :-1]
    places = torch.tensor([len(pair.prompt) - 1 + i for i, forced in enumerate(completion.forced) if not forced])
    every = F.log_softmax(logits, -1)[places]
    return every, every.gather(-1, ids[1:][places][:, None]).squeeze(-1)


@pytest.mark.parametrize("weights", SUBSETS[1:], ids=lambda w: "-".join(k for k, v in w.items() if v))
@pytest.mark.parametrize(("kl", "direction"), [("sum", "forward"), ("mean", "reverse")])
def test_objective_is_the_formula(weights: dict, kl: str, direction: str, make_model, make_pair, make_config) -> None:
    """Value, gradient, and the terms that are logged: any subset of terms, whatever else is in the row."""
    student, teacher = make_model(0, double=True), make_model(1, hidden=32, double=True).requires_grad_(False)
    pairs = [make_pair(i) for i in range(5)]
    config: DpdConfig = make_config(weights=weights, kl=kl, direction=direction, beta=0.3)
    terms = dict.fromkeys(weights, torch.zeros((), dtype=torch.float64))
    for pair in pairs:
        ratios = []
        for side, name in enumerate(("kl_chosen", "kl_rejected")):
            mine, picked = plain_log_probs(student, pair, side)
            theirs, _ = plain_log_probs(teacher, pair, side)
            a, b = (mine, theirs) if direction == "forward" else (theirs, mine)
            each = F.kl_div(a, b, log_target=True, reduction="none").sum(-1)
            terms[name] = terms[name] + (each.sum() if kl == "sum" else each.mean())
            ratios.append(picked.sum() - pair.sides[side].reference_log_prob)
        terms["dpo"] = terms["dpo"] - F.logsigmoid(0.3 * (ratios[0] - ratios[1]))
    reference = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    expected = torch.autograd.grad(reference, list(student.parameters()))

    needed = [s for s in (0, 1) if weights["dpo"] or weights[("kl_chosen", "kl_rejected")[s]]]
    loss, n, metrics = dpd_objective(config, teacher, CPU)(student, pack_pairs(pairs, 32, 0, needed))
    assert n == 5
    assert_close(loss, reference)
    for found, wanted in zip(torch.autograd.grad(loss, list(student.parameters())), expected, strict=True):
        assert_close(found, wanted)
    for name, weight in weights.items():
        assert (name in metrics) == bool(weight)
        if weight:
            assert torch.as_tensor(metrics[name]).item() == pytest.approx(terms[name].item())


def test_solved_problems_are_a_mean_of_their_own(make_model, make_pair, make_rollout, make_config) -> None:
    """Beside the pairs' terms, which they leave as they are."""
    student, teacher = make_model(0, double=True), make_model(1, hidden=32, double=True).requires_grad_(False)
    pairs = [make_pair(i) for i in range(4)]
    solved = [make_rollout(f"s{i}", 0, "right", tokens) for i, tokens in enumerate(([5, 6], [7, 8, 9]))]
    config: DpdConfig = make_config(solved_per_step=2, weights={"kl_solved": 0.6})
    objective, alone = dpd_objective(config, teacher, CPU), dpd_objective(make_config(), teacher, CPU)
    without = alone(student, pack_pairs(pairs, 32, 0))[0]
    each = []
    for rollout in solved:
        side = Side(0, "", rollout.tokens, rollout.forced)
        pair = Pair("", "", "", "", rollout.prompt, 0.0, side, side)
        (mine, _), (theirs, _) = (plain_log_probs(model, pair, 0) for model in (student, teacher))
        each.append(F.kl_div(mine, theirs, log_target=True, reduction="none").sum())
    mean = torch.stack(each).mean()
    loss, n, metrics = objective(student, pack_pairs(pairs, 32, 0, solved=solved))
    assert n == 4
    assert_close(loss / n, without / n + 0.6 * mean)
    assert torch.as_tensor(metrics["kl_solved"]).item() / n == pytest.approx(mean.item())
    parts = [objective(student, pack_pairs(pairs[i : i + 2], 32, 0, solved=[solved[i // 2]]))[0] for i in (0, 2)]
    assert_close(torch.stack(parts).sum(), loss)


def test_cutting_a_batch_changes_nothing(make_model, make_pair, make_config) -> None:
    objective = dpd_objective(make_config(kl="mean"), make_model(1), CPU)
    pairs, student = [make_pair(i) for i in range(6)], make_model(0)
    whole = objective(student, pack_pairs(pairs, 32, 0))[0]
    parts = sum(objective(student, pack_pairs(pairs[i : i + 2], 32, 0))[0] for i in (0, 2, 4))
    assert_close(torch.as_tensor(parts), whole)


def test_teacher_with_a_padded_vocabulary(make_model, make_pair, make_config) -> None:
    """Rows of the head beyond the smaller vocabulary belong to no token."""
    teacher, padded = make_model(1), make_model(2, vocab=40)
    rest = {k: v for k, v in teacher.state_dict().items() if "embed" not in k}
    padded.load_state_dict(rest, strict=False)
    padded.model.embed_tokens.weight.data[:23] = teacher.model.embed_tokens.weight.data
    batch = pack_pairs([make_pair(0), make_pair(1)], 32, 0)
    found, wanted = (dpd_objective(make_config(), t, CPU)(make_model(0), batch)[0] for t in (padded, teacher))
    assert_close(found, wanted)


def test_kl_needs_a_teacher(make_config: Callable[..., DpdConfig]) -> None:
    with pytest.raises(ValueError, match="no teacher"):
        dpd_objective(make_config(), None, CPU)
    dpd_objective(make_config(weights={"kl_chosen": 0, "kl_rejected": 0}), None, CPU)


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="dpo, kl_chosen and kl_rejected are all 0"):
        WeightsConfig.model_validate(SUBSETS[0])


def test_at_the_reference_the_dpo_term_is_log_2(make_model, make_pair) -> None:
    model = make_model(0)
    batch = pack_pairs([make_pair(0), make_pair(1)], 32, 0)
    log_probs = sequence_log_probs(model, batch, CPU).detach()
    loss, margin = dpo_loss(log_probs, log_probs, 0.1)
    assert loss.tolist() == pytest.approx([0.6931472] * 2)
    assert margin.tolist() == [0.0, 0.0]


def test_dpo_term_equals_trl(make_model, make_pair, make_config) -> None:
    """DPOTrainer's own loss, on log-probabilities of the same model computed without packing."""
    trainer_module = pytest.importorskip("trl.trainer.dpo_trainer", reason="TRL is not installed")
    student, beta = make_model(0), 0.4
    pairs = [make_pair(i, (-7.5 - i, -9.25 + i)) for i in range(4)]
    sequences = [(pair, side) for side in (0, 1) for pair in pairs]
    width = max(len(pair.prompt) + len(pair.sides[side].tokens) for pair, side in sequences)
    ids, mask = torch.zeros(8, width, dtype=torch.int64), torch.zeros(8, width, dtype=torch.int64)
    for row, (pair, side) in enumerate(sequences):
        completion = pair.sides[side]
        end = len(pair.prompt) + len(completion.tokens)
        ids[row, :end] = torch.tensor(pair.prompt + completion.tokens)
        mask[row, len(pair.prompt) : end] = torch.tensor([not forced for forced in completion.forced]).long()

    def model(input_ids: torch.Tensor, labels: torch.Tensor, **_: object) -> SimpleNamespace:
        every = F.log_softmax(student.logits(student(input_ids))[:, :-1], -1)
        picked = every.gather(-1, input_ids[:, 1:, None]).squeeze(-1) * (labels[:, 1:] != -100)
        zeros = torch.zeros_like(picked)
        return SimpleNamespace(log_probs=picked, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    same = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x, device=CPU)
    trainer = object.__new__(trainer_module.DPOTrainer)
    vars(trainer).update(
        accelerator=same, model=SimpleNamespace(training=False), aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, beta=beta,
        f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0], use_weighting=False,
        _metrics={"eval": defaultdict(list)}, _total_train_tokens=0,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )  # fmt: skip
    references = torch.tensor([[side.reference_log_prob for side in pair.sides] for pair in pairs])
    batch = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask,
        "ref_chosen_logps": references[:, 0], "ref_rejected_logps": references[:, 1],
    }  # fmt: skip
    theirs = trainer._compute_loss(model, batch, False)
    config = make_config(weights={"kl_chosen": 0, "kl_rejected": 0}, beta=beta)
    ours, n, metrics = dpd_objective(config, None, CPU)(student, pack_pairs(pairs, 32, 0))
    assert_close(ours / n, theirs)
    assert metrics["dpo_margin"].item() / n == pytest.approx(trainer._metrics["eval"]["rewards/margins"][0], rel=1e-5)
