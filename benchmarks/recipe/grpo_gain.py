"""GRPO straight from SFT against that SFT, on held-out puzzles, and where the gain comes from.

    python -m benchmarks.recipe.grpo_gain --seeds 0-2 --jobs 2

recipe.grpo-gain: bootstrap over problems of the mean over samples and seeds; the t-interval over seeds is also stored.
recipe.grpo-more-often, recipe.grpo-better: the two parts of the gain, means over seeds with the extremes as interval.
"""

from __future__ import annotations

from benchmarks.experiment_results import arm, comparison, measure, over_seeds, report


def main() -> None:
    experiment = measure("rl", "0-2", __doc__)
    gain = comparison(experiment, "rl", "sft")
    problems, n_seeds = gain["over_problems"], len(experiment["seeds"])
    parts = {k: [one[k] for one in gain["split"]] for k in ("more_often", "better", "direct")}

    def part(name: str) -> dict[str, object]:
        values = parts[name]
        mean = sum(values) / n_seeds
        return {"value": mean, "low": min(values), "high": max(values), "n": n_seeds, "runs": values, "unit": "avg@8"}

    levels = {
        name: [
            {key: seed[key] for key in ("value", "thinking_fraction", "accuracy_thinking")}
            for seed in arm(experiment, name)["seeds"]
        ]
        for name in ("sft", "rl")
    }
    report(
        {
            "recipe.grpo-gain": {
                "value": problems["mean"], "low": problems["low"], "high": problems["high"], "n": problems["n"],
                "runs": gain["differences"], "unit": "avg@8", "over_seeds": over_seeds(gain, "avg@8"), "levels": levels,
            },
            "recipe.grpo-more-often": part("more_often"),
            "recipe.grpo-better": part("better") | {"direct": part("direct")},
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
