"""B9: DPD against controls of equal compute, paired by seed, on held-out puzzles.

python -m benchmarks.b9_dpd --seeds 0-4 --jobs 2
"""

from __future__ import annotations

from benchmarks.evidence import arm, comparison, measure, over_seeds, report

CLAIMS = {"B9a": "sft_more", "B9b": "dpo_alone", "B9c": "kd_alone", "B9d": "sft_clean", "B9e": "sft"}


def main() -> None:
    evidence = measure("dpd", "0-4", __doc__)

    def entry(against: str) -> dict[str, object]:
        control = arm(evidence, against)
        passes = [seed.get("token_passes") for seed in control["seeds"]]
        return over_seeds(comparison(evidence, "dpd", against), "avg@8") | {
            "dpd": arm(evidence, "dpd")["values"],
            "control": control["values"],
            "token_passes": {"dpd": [s["token_passes"] for s in arm(evidence, "dpd")["seeds"]], "control": passes},
        }

    report({claim: entry(against) for claim, against in CLAIMS.items()})


if __name__ == "__main__":
    main()
