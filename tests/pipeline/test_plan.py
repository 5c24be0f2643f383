"""The plan of the 3B recipe against arithmetic done by hand, every figure."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from thinkling.errors import UserError
from thinkling.pipeline.plan import phase_tables, plan_pretraining, show, source_sizes
from thinkling.pipeline.recipe import Recipe, load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "nanbeige4-3b.yaml"
STEP = 2048 * 4096
"""Tokens a step."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(RECIPE)


def test_phases(recipe: Recipe) -> None:
    plan = plan_pretraining(recipe, "pretrain", source_sizes(recipe, "pretrain", {}))
    # 0.1T, 12.4T, 6.5T and 4T divided by 8,388,608, to the nearest whole step
    assert [p.steps for p in plan.phases] == [11921, 1478195, 774860, 476837]
    assert [p.tokens for p in plan.phases] == [
        100_000_595_968,
        12_399_998_402_560,
        6_499_996_794_880,
        3_999_998_672_896,
    ]
    assert [p.tokens_asked for p in plan.phases] == [10**11, 124 * 10**11, 65 * 10**11, 4 * 10**12]
    assert plan.steps == 11921 + 1478195 + 774860 + 476837
    assert plan.tokens == plan.steps * STEP
    assert abs(plan.tokens - 23 * 10**12) <= 4 * STEP / 2
    assert [(p.batch_size, p.sequence_length) for p in plan.phases] == [(2048, 4096)] * 3 + [(128, 65536)]
    assert [(p.lr_first, p.lr_last) for p in plan.phases] == [
        (0.0, 4.5e-4),
        (4.5e-4, 4.5e-4),
        (4.5e-4, 4.5e-4),
        (4.5e-4, 1.5e-6),
    ]
    assert [p.rope_theta for p in plan.phases] == [1e4] * 3 + [5e6]


def test_a_batch_ramp(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second phase quarters the batch, which the third inherits; only then does the table have its own column."""
    plain = plan_pretraining(recipe, "pretrain", {})
    override = [f"stages.pretrain.phases.1.batch_tokens={STEP // 4}"]
    plan = plan_pretraining(load_recipe(RECIPE, override), "pretrain", {})
    assert [p.steps for p in plan.phases] == [11921, 5912781, 3099442, 1907349]  # tokens / 2,097,152 from the second on
    assert [(p.batch_size, p.sequence_length) for p in plan.phases] == [(2048, 4096), *[(512, 4096)] * 2, (32, 65536)]
    shown = {}
    for name, found in (("plain", plain), ("ramp", plan)):
        console = Console(width=200, record=True, file=io.StringIO())
        for table in phase_tables(found, 200):
            console.print(table)
        shown[name] = console.export_text()
    assert "tokens per step" not in shown["plain"]
    assert "tokens per step" in shown["ramp"]
    assert "8,388,608" in shown["ramp"]
    assert "2,097,152" in shown["ramp"]


def test_epochs(recipe: Recipe) -> None:
    plan = plan_pretraining(recipe, "pretrain", source_sizes(recipe, "pretrain", {}))
    # 12.5T over 12.5T of text: one pass; 6.5T over the 6.5T of HQ: a second; 4T half and half over 4.5T and 2.0T
    by_phase = [
        {"hq-general": 0.008, "hq-reasoning": 0.008, "mq": 0.008},
        {"hq-general": 0.992, "hq-reasoning": 0.992, "mq": 0.992},
        {"hq-general": 1.0, "hq-reasoning": 1.0},
        {"hq-general": 2.0 / 4.5, "hq-reasoning": 1.0},
    ]
    for phase, expected in zip(plan.phases, by_phase, strict=True):
        assert phase.epochs == pytest.approx(expected, abs=1e-5)
    assert plan.epochs == pytest.approx({"hq-general": 2 + 2 / 4.5, "hq-reasoning": 3.0, "mq": 1.0}, abs=1e-5)


def test_parameters_flops_and_hours(recipe: Recipe) -> None:
    plan = plan_pretraining(recipe, "pretrain", {})
    # a layer: q and o 2560×2560 each, k and v 2560×512 each, three matrices 2560×10496, two norms
    layer = 2 * 2560 * 2560 + 2 * 2560 * 512 + 3 * 2560 * 10496 + 2 * 2560
    body = 32 * layer + 2560
    assert plan.non_embedding_parameters == body == 3_082_979_840
    assert plan.parameters == body + 2 * 166144 * 2560 == 3_933_637_120
    assert f"{plan.parameters / 1e9:.2f}, {plan.non_embedding_parameters / 1e9:.2f}" == "3.93, 3.08"
    dense = 6 * (body + 166144 * 2560)
    short_rows, long_rows = dense + 6 * 32 * 2560 * 4096, dense + 6 * 32 * 2560 * 65536
    tokens = [p.tokens for p in plan.phases]
    flops = sum(tokens[:3]) * short_rows + tokens[3] * long_rows
    assert plan.flops == pytest.approx(flops, rel=1e-12)
    assert plan.gpu_hours(recipe.hardware) == pytest.approx(flops / (989e12 * 0.5) / 3600, rel=1e-12)
    assert recipe.hardware.mfu == 0.5


def test_printed_and_json(recipe: Recipe, tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    plans = show(recipe, tmp_path, console)
    text = console.export_text()
    for figure in ("12,399,998,402,560", "1,478,195", "3,933,637,120", "3,082,979,840", "128 × 65,536", "50%"):
        assert figure in text
    data = json.loads(json.dumps(plans[0].as_json(recipe.hardware)))
    assert data["steps"] == plans[0].steps
    assert data["gpu_hours"] == plans[0].gpu_hours(recipe.hardware)


def test_source_beyond_its_limit_stops_the_plan() -> None:
    recipe = load_recipe(RECIPE, ["stages.pretrain.max_epochs={mq: 0.5}"])
    with pytest.raises(UserError, match=r"'mq' would be seen 1\.00 times, but the limit is 0\.5"):
        plan_pretraining(recipe, "pretrain", source_sizes(recipe, "pretrain", {}))


def test_unknown_source_in_a_mixture() -> None:
    recipe = load_recipe(RECIPE, ["stages.pretrain.phases.2.mixture={hq: 1}"])
    with pytest.raises(UserError, match=r"phases\.high-quality stable\.mixture: unknown source 'hq'"):
        plan_pretraining(recipe, "pretrain", source_sizes(recipe, "pretrain", {}))


def test_mixture_and_rate_must_not_move_together() -> None:
    recipe = load_recipe(RECIPE, ["stages.pretrain.phases.2.learning_rate=3.0e-4"])
    with pytest.raises(UserError, match=r"phases\.high-quality stable: mixture and learning rate change"):
        plan_pretraining(recipe, "pretrain", {})
    no_mark = load_recipe(RECIPE, ["stages.pretrain.phases.3.decay=false"])
    with pytest.raises(UserError, match="decay: true"):
        plan_pretraining(no_mark, "pretrain", {})
