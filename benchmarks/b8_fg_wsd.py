"""B8: FG-WSD against WSD with the same rows of every source, by loss on held-out high-quality text.

    python -m benchmarks.b8_fg_wsd --seeds 0-7 --jobs 2

Values are what FG-WSD's loss lies below WSD's: the harness knows intervals above a bar, so signs are turned.
"""

from __future__ import annotations

from typing import Any

from benchmarks.evidence import arm, comparison, measure, over_seeds, report

UNIT = "nats/token"


def less(evidence: dict[str, Any], name: str) -> dict[str, Any]:
    """WSD minus an arm: mean, t-interval, a value a seed; and the same for each held-out source, as differences."""
    found = over_seeds(comparison(evidence, name, "wsd"), UNIT)
    losses = [[seed["losses"] for seed in arm(evidence, one)["seeds"]] for one in ("wsd", name)]
    by_source = {source: [a[source] - b[source] for a, b in zip(*losses, strict=True)] for source in losses[0][0]}
    turned = {"value": -found["value"], "low": -found["high"], "high": -found["low"]}
    return found | turned | {"runs": [-d for d in found["runs"]], "by_source": by_source}


def main() -> None:
    evidence = measure("fg-wsd", "0-7", __doc__)
    levels = {one["name"]: one["values"] for one in evidence["arms"]}
    report({"B8a": less(evidence, "fg_equal") | {"levels": levels}, "B8b": less(evidence, "fg_rich")})


if __name__ == "__main__":
    main()
