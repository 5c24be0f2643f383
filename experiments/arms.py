"""The three experiments and their arms; an arm is a recipe with some fields overridden.

The arms of a seed share a run directory, so equal stages are one artifact. The stage that differs has the same name in
all arms of an experiment. A stage's seed is derived from its name, so arms start from the same weights and see the data
in the same order wherever their settings are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import yaml

from experiments import outcomes
from experiments.compute import TRAINING, dpd_passes, passes, steps_for
from experiments.experiment import Arm, Done, Entries, Experiment, Overrides
from thinkling.errors import UserError
from thinkling.pipeline.recipe import Recipe
from thinkling.stages.base import StageConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.sft.config import SftConfig

S = TypeVar("S", bound=StageConfig)

ROWS_A_STEP = 8
UNIT_STEPS = 25
"""Phases are multiples of 200 rows, so that every fraction below is a whole number of rows and arms agree exactly."""
PHASES = (("warm-up", 1), ("stable, first part", 5), ("stable, second part", 6), ("decay", 3))
"""Names and lengths in units. The first two together are as long as the third, so a mixture of 10:90 in them and 90:10
in the third uses the same rows of every source as 50:50 throughout."""
PEAK, LAST = 4.0e-3, 4.0e-5
DECAY_FRACTION_HQ = 0.9
HQ, MQ = {"hq-docstrings": 0.8, "hq-pages": 0.2}, {"mq-pages-noisy": 0.6, "mq-topics": 0.4}
"""Mostly text, because its loss falls smoothly. The loss on puzzle pages falls in jumps, at steps that differ more
between seeds than between arms (docs/experiments.md)."""


def mixture(hq: float) -> dict[str, float]:
    """Source → weight, for a fraction `hq` of high-quality text."""
    parts = {n: hq * s for n, s in HQ.items()} | {n: (1 - hq) * s for n, s in MQ.items()}
    return {name: round(fraction, 6) for name, fraction in parts.items()}


def phases(first: float, second: float, sequence_length: int) -> list[dict[str, Any]]:
    """Phases with a plateau that starts with a fraction `first` of high-quality text and continues with `second`."""
    fractions = (first, first, second, DECAY_FRACTION_HQ)
    rates = ([0.0, PEAK], PEAK, PEAK, [PEAK, LAST])
    return [
        {
            "name": name,
            "tokens": units * UNIT_STEPS * ROWS_A_STEP * sequence_length,
            "learning_rate": rate,
            "mixture": mixture(fraction),
            **({"decay": True} if name == "decay" else {}),
        }
        for (name, units), fraction, rate in zip(PHASES, fractions, rates, strict=True)
    ]


def _fg_wsd(first: float, second: float) -> Callable[[Recipe, Done], Overrides]:
    def overrides(recipe: Recipe, done: Done) -> Overrides:
        pretrain = _stage(recipe, "pretrain", PretrainConfig)
        length = pretrain.sequence_length
        return [
            "sources.pages.pages_per_family=1400",
            "stages.pretrain.validation_rows=128",
            f"stages.pretrain.batch_tokens={ROWS_A_STEP * length}",
            f"stages.pretrain.phases={_flow(phases(first, second, length))}",
        ]

    return overrides


def check_equal_rows(found: Entries) -> None:
    """Raises RuntimeError unless fg_equal saw the same rows of every source as wsd, before decay and in total."""
    for key in ("plateau_rows", "sources"):
        if found["fg_equal"][key] != found["wsd"][key]:
            raise RuntimeError(f"fg_equal and wsd saw different {key}: {found['fg_equal'][key]}, {found['wsd'][key]}")


def _same(recipe: Recipe, done: Done) -> Overrides:
    return []


def _kd_alone(recipe: Recipe, done: Done) -> Overrides:
    return _matched(recipe, done, ("dpo", "kl_rejected"))


DPO_RATE = 1 / 15
"""DPO alone uses this fraction of dpd's learning rate, because without a KL term it drifts away from its starting
point. Seed 100, from 0.65: 0.18 at the full rate, 0.67 at a fifth, 0.77 at this."""


def _dpo_alone(recipe: Recipe, done: Done) -> Overrides:
    rate = _stage(recipe, "dpd", DpdConfig).optimizer.lr * DPO_RATE
    matched = _matched(recipe, done, ("kl_chosen", "kl_rejected", "kl_solved"))
    return [*matched, f"stages.dpd.optimizer.lr={rate:.10f}"]


def _matched(recipe: Recipe, done: Done, without: tuple[str, ...]) -> Overrides:
    """Fewer loss terms for more steps, with as many token passes as dpd."""
    dpd = _stage(recipe, "dpd", DpdConfig)
    weights = dpd.weights.model_copy(update=dict.fromkeys(without, 0.0))
    steps = steps_for(done["dpd"]["dpd"], dpd, dpd.model_copy(update={"weights": weights}))
    return [f"stages.dpd.weights={_flow(weights.model_dump())}", f"stages.dpd.steps={steps}"]


def _more_sft(recipe: Recipe, done: Done) -> Overrides:
    return _sft(recipe, done, "sft")


def _clean_sft(recipe: Recipe, done: Done) -> Overrides:
    return _sft(recipe, done, "sft_teacher")


def _sft(recipe: Recipe, done: Done, like: str) -> Overrides:
    """SFT in place of dpd, on the kind of examples that stage `like` uses. Compute is matched: a third of dpd's token
    passes, since training on a token is three passes."""
    sft, model = _stage(recipe, "sft", SftConfig), _stage(recipe, like, SftConfig)
    counts = done["dpd"][like].counts
    tokens = counts["tokens"] * (counts["rows"] + counts["rows_left_over"]) / counts["rows"] / model.epochs
    wanted = dpd_passes(done["dpd"]["dpd"], _stage(recipe, "dpd", DpdConfig)).total / TRAINING
    examples = []
    for one in model.examples:
        if one.n_examples is None:
            raise UserError(f"stages.{like}.examples: n_examples is missing; the arm needs it to scale it")
        n = max(1, round(one.n_examples * wanted / tokens))
        examples.append(one.model_dump(mode="json") | {"n_examples": n})
    stage = sft.model_dump(mode="json") | {
        "inputs": {"model": recipe.stages["dpd"].inputs["model"]},
        "epochs": 1.0,
        "examples": examples,
    }
    return [f"stages.dpd={_flow(stage)}"]


def _flow(value: Any) -> str:
    """A value on one line of YAML. JSON would not work: YAML reads its 4e-05 as text."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9).strip()


def _stage(recipe: Recipe, name: str, kind: type[S]) -> S:
    stage = recipe.stages.get(name)
    if not isinstance(stage, kind):
        raise UserError(
            f"{recipe.name}: this needs a stage {name!r} of kind {kind.__name__.removesuffix('Config').lower()}; "
            "use experiments/recipe.yaml, or add such a stage to your recipe"
        )
    return stage


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="fg-wsd",
            question="Does the order of the mixture inside the plateau matter?",
            arms=(
                Arm("wsd", "WSD: 50% high-quality text throughout the plateau", _fg_wsd(0.5, 0.5)),
                Arm("fg_equal", "FG-WSD: 10%, then 90%; the same rows of every source", _fg_wsd(0.1, 0.9)),
                Arm("fg_rich", "FG-WSD: 50%, then 90%; more high-quality text", _fg_wsd(0.5, 0.9)),
            ),
            targets=("pretrain",),
            outcome=outcomes.losses("pretrain", HQ),
            check=check_equal_rows,
            pairs=(("fg_equal", "wsd"), ("fg_rich", "wsd")),
            metric="loss on held-out high-quality text",
            unit="nats/token",
            lower_is_better=True,
            seeds=tuple(range(8)),
        ),
        Experiment(
            name="dpd",
            question="Does DPD beat its parts, and more SFT, at equal compute?",
            arms=(
                Arm("dpd", "all three terms", _same),
                Arm("sft_more", "more SFT, same kind of examples", _more_sft),
                Arm("sft_clean", "more SFT, clean reasoning", _clean_sft),
                Arm("dpo_alone", "the DPO term alone", _dpo_alone),
                Arm("kd_alone", "KL to the teacher on right answers only", _kd_alone),
            ),
            targets=("evaluate_sft", "evaluate_dpd"),
            outcome=outcomes.scores("dpd", "sft", passes),
            starts_from="sft",
            pairs=(
                ("dpd", "sft_more"),
                ("dpd", "sft_clean"),
                ("dpd", "dpo_alone"),
                ("dpd", "kd_alone"),
                ("dpd", "sft"),
            ),
            metric="score on held-out puzzles",
            unit="avg@8",
            lower_is_better=False,
            seeds=tuple(range(5)),
        ),
        Experiment(
            name="rl",
            question="Does GRPO straight from SFT improve scores by more thinking or by better thinking?",
            arms=(Arm("rl", "GRPO from the SFT checkpoint", _same),),
            targets=("evaluate_sft", "evaluate_rl"),
            outcome=outcomes.scores("rl", "sft"),
            starts_from="sft",
            pairs=(("rl", "sft"),),
            metric="score on held-out puzzles",
            unit="avg@8",
            lower_is_better=False,
            seeds=tuple(range(3)),
        ),
    )
}
