"""FG-WSD against WSD with the same rows of every source, compared by loss on held-out high-quality text.

    python -m benchmarks.recipe.fg_wsd --seeds 0-7 --jobs 2

Values are WSD's loss minus FG-WSD's, so a gain is positive.
"""

from __future__ import annotations

from typing import Any

from benchmarks.experiment_results import arm, comparison, measure, over_seeds, report

UNIT = "nats/token"


def less(experiment: dict[str, Any], name: str) -> dict[str, Any]:
    """WSD minus an arm: mean, t-interval and one value per seed, overall and for each held-out source."""
    found = over_seeds(comparison(experiment, name, "wsd"), UNIT)
    losses = [[seed["losses"] for seed in arm(experiment, one)["seeds"]] for one in ("wsd", name)]
    by_source = {source: [a[source] - b[source] for a, b in zip(*losses, strict=True)] for source in losses[0][0]}
    turned = {"value": -found["value"], "low": -found["high"], "high": -found["low"]}
    return found | turned | {"runs": [-d for d in found["runs"]], "by_source": by_source}


def main() -> None:
    experiment = measure("fg-wsd", "0-7", __doc__)
    levels = {one["name"]: one["values"] for one in experiment["arms"]}
    equal = less(experiment, "fg_equal") | {"levels": levels}
    report({"recipe.fg-wsd-equal": equal, "recipe.fg-wsd-rich": less(experiment, "fg_rich")})


if __name__ == "__main__":
    main()
