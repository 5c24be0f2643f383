"""Compute of dpd's arms, counted by hand on a stage's files; arms are sized by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.arms import EXPERIMENTS
from experiments.compute import dpd_passes, sft_passes, steps_for
from thinkling.data.artifact import Artifact
from thinkling.generate.rollouts import Rollout, write_rollouts
from thinkling.pipeline.recipe import Recipe, load_recipe
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.pairs import FILE, Pair, Side, write_pairs
from thinkling.stages.sft.config import ExamplesConfig, SftConfig

RECIPE = Path(__file__).resolve().parents[2] / "experiments" / "recipe.yaml"
PROMPT, POSITIVE, NEGATIVE, SOLVED = 10, 30, 20, 25
PAIRS, SOLVED_PROBLEMS = 6, 4


def _rollout(problem: str, sample: int, length: int, right: bool) -> Rollout:
    return Rollout(
        problem_id=problem, family="sort", sample=sample, question="sort 21", reference="12", text="12",
        outcome="right" if right else "wrong", tier="exact", detail="", thinks=True, finish_reason="stop",
        prompt=[1] * PROMPT, tokens=[2 + sample] * length, logprobs=[0.0] * length, versions=[0] * length,
        forced=[False] * length,
    )  # fmt: skip


@pytest.fixture
def dpd(tmp_path: Path) -> Artifact:
    """Six problems that the student got wrong and the teacher right, and four that the student solved."""
    for role in ("student", "teacher"):
        (tmp_path / "samples" / role).mkdir(parents=True)
    failed = [_rollout(f"f{i}", 0, NEGATIVE, False) for i in range(PAIRS)]
    solved = [_rollout(f"s{i}", 0, SOLVED, True) for i in range(SOLVED_PROBLEMS)]
    write_rollouts(tmp_path / "samples" / "student" / "00000.parquet", failed + solved)
    taught = [_rollout(f"f{i}", 0, POSITIVE, True) for i in range(PAIRS)]
    write_rollouts(tmp_path / "samples" / "teacher" / "00000.parquet", taught)
    pairs = [
        Pair(f.problem_id, "sort", "sort 21", "12", f.prompt, 1.0, _side(t), _side(f))
        for f, t in zip(failed, taught, strict=True)
    ]
    write_pairs(tmp_path / FILE, pairs)
    return Artifact(tmp_path, {"counts": {"steps": 10}})


def _side(rollout: Rollout) -> Side:
    return Side(rollout.sample, rollout.text, rollout.tokens, rollout.forced, -1.0)


def _config(**more: Any) -> DpdConfig:
    return DpdConfig.model_validate(
        {
            "kind": "dpd", "inputs": {"model": "sft", "teacher": "teacher"},
            "problems": [{"source": "puzzles", "n_problems": 10}], "pairs": {"max_new_tokens": 8},
            "steps": 10, "batch_size": 2,
            "sequence_length": 64, "optimizer": {"name": "muon", "lr": 1e-3}, **more,
        }
    )  # fmt: skip


def test_passes_by_hand(dpd: Artifact) -> None:
    passes = dpd_passes(dpd, _config())
    assert passes.sampling == PAIRS * (PROMPT + NEGATIVE) + 4 * (PROMPT + SOLVED) + PAIRS * (PROMPT + POSITIVE)
    assert passes.references == PAIRS * (2 * PROMPT + POSITIVE + NEGATIVE)
    assert passes.step == 2 * (2 * PROMPT + POSITIVE + NEGATIVE) * 4  # student 3, teacher 1
    assert passes.total == passes.sampling + passes.references + 10 * passes.step


@pytest.mark.parametrize(
    ("more", "step", "has_references"),
    [
        ({"weights": {"kl_chosen": 0, "kl_rejected": 0, "kl_solved": 0}}, 2 * 70 * 3, True),
        ({"weights": {"dpo": 0, "kl_rejected": 0}}, 2 * 40 * 4, False),
        ({"weights": {"dpo": 0, "kl_chosen": 0}}, 2 * 30 * 4, False),
        ({"solved_per_step": 1}, (2 * 70 + 35) * 4, True),
    ],
)
def test_terms_that_are_left_out_cost_nothing(
    dpd: Artifact, more: dict[str, Any], step: int, has_references: bool
) -> None:
    passes = dpd_passes(dpd, _config(**more))
    assert passes.step == step
    assert (passes.references > 0) == has_references


def test_fewer_terms_run_for_more_steps_at_equal_passes(dpd: Artifact) -> None:
    whole = _config()
    for weights in ({"dpo": 0, "kl_rejected": 0}, {"kl_chosen": 0, "kl_rejected": 0}):
        part = _config(weights=weights)
        steps = steps_for(dpd, whole, part)
        assert steps > whole.steps
        found = dpd_passes(dpd, part.model_copy(update={"steps": steps}))
        assert found.total == pytest.approx(dpd_passes(dpd, whole).total, abs=found.step / 2 + 1e-6)


def test_arms_of_dpd_are_sized_by_what_dpd_cost(dpd: Artifact) -> None:
    base = load_recipe(RECIPE)
    # 48,000 tokens in 400 rows, and 100 rows that were left over: 60,000 in all.
    counts = {"tokens": 48_000, "rows": 400, "rows_left_over": 100}
    before = Artifact(dpd.path, {"counts": counts})
    done = {"dpd": {"dpd": dpd, "sft": before, "sft_teacher": before}}
    stage = base.stages["dpd"]
    assert isinstance(stage, DpdConfig)
    total = dpd_passes(dpd, stage).total
    recipes: dict[str, Recipe] = {}
    for arm in EXPERIMENTS["dpd"].arms[1:]:
        overrides = arm.overrides(base, done)
        recipes[arm.name] = load_recipe(RECIPE, overrides)
        changed = {n for n, s in recipes[arm.name].stages.items() if s != base.stages[n]}
        assert changed == {"dpd"}, arm.name
    for name in ("sft_more", "sft_clean"):
        sft = recipes[name].stages["dpd"]
        assert isinstance(sft, SftConfig)
        assert sft.inputs == {"model": "sft"}
        (before_it,) = _sets(base.stages["sft_teacher" if name == "sft_clean" else "sft"])
        (examples,) = _sets(sft)
        assert examples.n_examples
        assert before_it.n_examples
        tokens = 60_000 * examples.n_examples / before_it.n_examples
        assert tokens * 3 == pytest.approx(total, abs=60_000 * 3 / before_it.n_examples)
        assert examples.source == before_it.source == ("mixed" if name == "sft_more" else "puzzles")
    for name, alone in (("dpo_alone", {"dpo"}), ("kd_alone", {"kl_chosen"})):
        dpd_arm = recipes[name].stages["dpd"]
        assert isinstance(dpd_arm, DpdConfig)
        weights = dpd_arm.weights.model_dump()
        assert {k for k in ("dpo", "kl_chosen", "kl_rejected") if weights[k]} == alone
        assert dpd_arm.steps > stage.steps
        assert dpd_arm.optimizer.lr == pytest.approx(1e-4 if name == "dpo_alone" else stage.optimizer.lr)


def _sets(stage: object) -> list[ExamplesConfig]:
    assert isinstance(stage, SftConfig)
    return stage.examples


def test_sft_passes_are_three_a_token() -> None:
    assert sft_passes(Artifact(Path(), {"counts": {"tokens": 7}})) == 21
