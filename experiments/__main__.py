"""Compares ways of training, paired by seed, with intervals.

python -m experiments dpd --jobs 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from thinkling.errors import UserError
from thinkling.pipeline.environment import fix_environment

RECIPE = Path(__file__).resolve().parent / "recipe.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the experiment named on the command line; a user error is one line and exit status 2."""
    from experiments.arms import EXPERIMENTS

    parser = argparse.ArgumentParser(prog="python -m experiments", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--seeds", help="such as 0-7 or 0,3,5; default: the seeds of the claims")
    parser.add_argument("--jobs", type=int, default=1, help="seeds run in parallel, each in a process with one thread")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="the recipe that the arms derive from")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--one-seed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    try:
        _run(options)
    except UserError as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("experiments: stopped; run the same command again to resume from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None


def _run(options: argparse.Namespace) -> None:
    from experiments import gather, page, running, seed
    from experiments.arms import EXPERIMENTS
    from thinkling.pipeline.progress import progress_console, result_console

    chosen, console = EXPERIMENTS[options.experiment], progress_console()
    seeds = list(chosen.seeds) if options.seeds is None else running.parse_seeds(options.seeds)
    if options.one_seed:
        seed.run_seed(chosen, options.recipe, seeds[0], options.runs, console, lambda line: print(line, flush=True))
        return
    report = running.run(chosen, options.recipe, seeds, options.jobs, options.runs, console)
    gather.show(report, result_console())
    written = page.write(seed.results_of(chosen, options.runs))
    console.print(f"report: {written}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    fix_environment(1, "experiments")
    main()
