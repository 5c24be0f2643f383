"""DPD against compute-matched controls, paired by seed, on held-out puzzles.

python -m benchmarks.recipe.dpd_controls --seeds 0-4 --jobs 2
"""

from __future__ import annotations

from benchmarks.experiment_results import arm, comparison, measure, over_seeds, report

CONTROLS = ("sft_more", "dpo_alone", "kd_alone", "sft_clean", "sft")


def main() -> None:
    experiment = measure("dpd", "0-4", __doc__)

    def entry(against: str) -> dict[str, object]:
        control = arm(experiment, against)
        passes = [seed.get("token_passes") for seed in control["seeds"]]
        return over_seeds(comparison(experiment, "dpd", against), "avg@8") | {
            "dpd": arm(experiment, "dpd")["values"],
            "control": control["values"],
            "token_passes": {"dpd": [s["token_passes"] for s in arm(experiment, "dpd")["seeds"]], "control": passes},
        }

    report({f"recipe.dpd-{against.replace('_', '-')}": entry(against) for against in CONTROLS})


if __name__ == "__main__":
    main()
