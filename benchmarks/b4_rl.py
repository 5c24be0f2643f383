"""B4: GRPO straight from SFT against that SFT, on held-out puzzles, and what the gain came from.

    python -m benchmarks.b4_rl --seeds 0-2 --jobs 2

B4a: bootstrap over problems of the mean over samples and seeds; the t-interval over seeds stands beside it. B4b and
B4c: the two parts of the gain, means over seeds with the extremes over seeds as ends.
"""

from __future__ import annotations

from benchmarks.evidence import arm, comparison, measure, over_seeds, report


def main() -> None:
    evidence = measure("rl", "0-2", __doc__)
    gain = comparison(evidence, "rl", "sft")
    problems, n_seeds = gain["over_problems"], len(evidence["seeds"])
    parts = {k: [one[k] for one in gain["split"]] for k in ("more_often", "better", "direct")}

    def part(name: str) -> dict[str, object]:
        values = parts[name]
        mean = sum(values) / n_seeds
        return {"value": mean, "low": min(values), "high": max(values), "n": n_seeds, "runs": values, "unit": "avg@8"}

    levels = {
        name: [
            {key: seed[key] for key in ("value", "thinking_share", "accuracy_thinking")}
            for seed in arm(evidence, name)["seeds"]
        ]
        for name in ("sft", "rl")
    }
    report(
        {
            "B4a": {
                "value": problems["mean"], "low": problems["low"], "high": problems["high"], "n": problems["n"],
                "runs": gain["differences"], "unit": "avg@8", "over_seeds": over_seeds(gain, "avg@8"), "levels": levels,
            },
            "B4b": part("more_often"),
            "B4c": part("better") | {"direct": part("direct")},
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
