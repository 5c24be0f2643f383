"""Refined solutions with reconstructed chains against raw drafts as SFT data, equal steps, paired by seed.

    python -m benchmarks.recipe.refine --seeds 0-4 --jobs 2 --runs runs

Builds on `runs/tiny`: its cold start (which writes the drafts and from which both arms train), its teacher and its
refiner; any that are missing are made first. The seed determines the problems, the drafts and the order of training.
Both arms see the same problems (those of the jobs that refine kept), take the same number of steps, and include the
same examples of the tool family. The raw arm uses each job's draft unfiltered, including damaged ones. `raw_all` uses
the drafts of all jobs, including those that refine rejected. Scored by avg@8 on the held-out puzzles, chat form, T 0.6.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.experiment_results import report
from benchmarks.machine import ROOT

RECIPE = ROOT / "recipes" / "tiny.yaml"
FAMILIES = ["sum", "mod", "sort", "reverse", "maximum"]
ARMS = ("refined", "raw", "raw_all")
BATCH_ROWS = 12
REFINER = {"input": "refiner"}
REFINE: dict[str, Any] = {
    "kind": "refine",
    "inputs": {"refiner": "sft_refiner", "student": "sft_cold", "teacher": "sft_teacher"},
    "style": "puzzles", "style_options": {"noise_fraction": 0.3},
    "problems": {"source": "puzzles", "families": FAMILIES},
    "drafters": [{"input": "student", "temperature": 0.6}, {"input": "teacher", "temperature": 0.6}],
    "checklist": REFINER, "evaluators": [REFINER], "reviser": REFINER, "chain": REFINER,
}  # fmt: skip


def stage_directory(run: Path, name: str) -> Path | None:
    """The newest finished directory of a stage."""
    found = sorted(run.glob(f"{name}-*/manifest.json"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def parents(runs: Path) -> dict[str, Path]:
    """Cold start, teacher and refiner of the tiny run under `runs`; missing ones are made."""
    made = {}
    for name in ("sft_cold", "sft_teacher", "sft_refiner"):
        if stage_directory(runs / "tiny", name) is None:
            command = [sys.executable, "-m", "thinkling", "sft", str(RECIPE), "--stage", name, "--runs", str(runs)]
            subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        found = stage_directory(runs / "tiny", name)
        assert found is not None
        made[name] = found
    return made


def one_seed(seed: int, directory: Path, models: dict[str, Path], problems_per_family: int) -> dict[str, Any]:
    """Refines, trains the arms and scores them, reusing whatever an earlier start finished."""
    from thinkling.data.artifact import Artifact
    from thinkling.data.conversations import read_conversations, write_conversations
    from thinkling.puzzles.sources import PuzzlesSource
    from thinkling.seeds import derive
    from thinkling.sources.base import bound
    from thinkling.stages.base import StageContext
    from thinkling.stages.evaluate.config import EvaluateConfig
    from thinkling.stages.evaluate.stage import run as evaluate
    from thinkling.stages.refine.config import RefineConfig
    from thinkling.stages.refine.stage import run as refine
    from thinkling.stages.sft.config import SftConfig
    from thinkling.stages.sft.stage import run as sft

    source = PuzzlesSource(
        type="puzzles", families={family: {} for family in [*FAMILIES, "calc"]}, heldout_per_family=100
    )

    def work(name: str, config: Any, run: Any, inputs: dict[str, Path], seed: int) -> tuple[Path, dict[str, Any]]:
        place, done = directory / name, directory / f"{name}.json"
        if not done.exists():
            place.mkdir(parents=True, exist_ok=True)
            given = {role: Artifact(path, {}) for role, path in inputs.items()}
            ctx = StageContext(name, place, given, seed, 1, sources=bound({"puzzles": source}))
            run(config, ctx)
            done.write_text(json.dumps(ctx.counts))
        return place, json.loads(done.read_text())

    wanted = {**REFINE, "problems": {**REFINE["problems"], "n_problems": problems_per_family * len(FAMILIES)}}
    inputs = {role: models[name] for role, name in REFINE["inputs"].items()}
    config = RefineConfig.model_validate(wanted)
    refined, refine_counts = work("refine", config, refine, inputs, derive(seed, "b10"))
    kept = {c.problem_id for c in read_conversations(refined / "conversations.parquet")}
    for arm, chosen in (("raw", kept), ("raw_all", None)):
        (directory / f"drafts_{arm}").mkdir(exist_ok=True)
        write_conversations(directory / f"drafts_{arm}" / "conversations.parquet", drafts(refined, chosen))
    given = {"refined": refined, "raw": directory / "drafts_raw", "raw_all": directory / "drafts_raw_all"}
    base = {
        "kind": "sft", "inputs": {"model": "sft_cold", "conversations": "refine"}, "sequence_length": 128,
        "batch_size": BATCH_ROWS, "optimizer": {"name": "muon", "lr": 2.0e-3},
        "examples": {"source": "puzzles", "families": ["calc"], "n_examples": problems_per_family // 4},
    }  # fmt: skip
    steps, scores = None, {}
    for arm in ARMS:
        config = SftConfig.model_validate({**base, "epochs": 2 if steps is None else 8, "max_steps": steps})
        parents_of_arm = {"model": models["sft_cold"], "conversations": given[arm]}
        trained, counts = work(f"sft_{arm}", config, sft, parents_of_arm, derive(seed, "b10 sft"))
        steps = steps or counts["steps"]
        assert counts["steps"] == steps, f"{arm} has too few rows for {steps} steps"
        config = EvaluateConfig.model_validate({"kind": "evaluate", "task_sets": {"puzzles": {"source": "puzzles"}}})
        place, _ = work(f"evaluate_{arm}", config, evaluate, {"model": trained}, derive(0, "b10 evaluate"))
        scores[arm] = json.loads((place / "scores.json").read_text())[0]
    return {"seed": seed, "steps": steps, "scores": scores, "refine": refine_counts}


def drafts(refined: Path, kept: set[str | None] | None) -> Any:
    """First solutions of the jobs, unfiltered, for the problems in `kept` (None: all problems)."""
    import pyarrow.parquet as pq

    from thinkling.data.conversations import Conversation

    for row in pq.read_table(refined / "jobs.parquet").to_pylist():
        if row["rounds"] and (kept is None or row["problem_id"] in kept):
            draft = row["rounds"][0]
            answer = {"role": "assistant", "content": draft["answer"], "reasoning_content": draft["reasoning"]}
            messages = [{"role": "user", "content": row["question"]}, answer]
            yield Conversation(row["key"], messages, f"puzzles/{row['family']}", row["problem_id"])


def measurements(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Refined minus raw, and minus all drafts, with t-intervals over paired seeds."""
    from thinkling.stats import t_interval

    def entry(against: str) -> dict[str, Any]:
        gains = [s["scores"]["refined"]["mean"] - s["scores"][against]["mean"] for s in found]
        mean, low, high = t_interval(gains)
        arms = {a: [s["scores"][a]["mean"] for s in found] for a in ("refined", against)}
        thinking = {a: [s["scores"][a]["thinking_fraction"] for s in found] for a in ("refined", against)}
        value = {"value": mean, "low": low, "high": high, "n": len(gains), "unit": "avg@8"}
        problems = {"problems": found[0]["scores"]["refined"]["n"], "steps": [s["steps"] for s in found]}
        return {**value, "runs": gains, "arms": arms, "thinking_fraction": thinking, **problems}

    return {"recipe.refine-same-jobs": entry("raw"), "recipe.refine-all-jobs": entry("raw_all")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 0,3")
    parser.add_argument("--jobs", type=int, default=1, help="seeds run in parallel, each in a process with one thread")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--work", type=Path, help="folder of the arms; default: refine-benchmark under --runs")
    parser.add_argument("--refiner", type=Path, help="refiner to use instead of the run's")
    parser.add_argument("--problems-per-family", type=int, default=800)
    parser.add_argument("--one-seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work or arguments.runs / "refine-benchmark"
    if arguments.one_seed is not None:
        models = {name: Path(path) for name, path in json.loads((work / "models.json").read_text()).items()}
        directory = work / f"seed-{arguments.one_seed}"
        result = one_seed(arguments.one_seed, directory, models, arguments.problems_per_family)
        (directory / "result.json").write_text(json.dumps(result))
        return
    models = (
        parents(arguments.runs)
        if arguments.refiner is None
        else {n: stage_directory(arguments.runs / "tiny", n) for n in ("sft_cold", "sft_teacher")}
        | {"sft_refiner": arguments.refiner}
    )
    work.mkdir(parents=True, exist_ok=True)
    (work / "models.json").write_text(json.dumps({name: str(path) for name, path in models.items()}))
    first, _, last = arguments.seeds.partition("-")
    seeds = list(range(int(first), int(last) + 1)) if last else [int(s) for s in arguments.seeds.split(",")]
    run_all(seeds, arguments.jobs, [*sys.argv[1:], "--one-seed"])
    found = [json.loads((work / f"seed-{seed}" / "result.json").read_text()) for seed in seeds]
    report(measurements(found))


def run_all(seeds: list[int], jobs: int, options: list[str]) -> None:
    """Runs one process per seed, `jobs` of them in parallel."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}

    def run(seed: int) -> None:
        command = [sys.executable, "-m", "benchmarks.recipe.refine", *options, str(seed)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, seeds))


if __name__ == "__main__":
    main()
