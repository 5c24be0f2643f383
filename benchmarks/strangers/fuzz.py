"""Fuzzed inputs over readers, recipes, templates, replies and the answer parser: crashes, and hangs over ten seconds.

    python -m benchmarks.strangers.fuzz [--inputs N] [--targets NAME …] [--state FOLDER]

Of ten inputs nine are mutated from a corpus and one is of hypothesis. All are drawn by fixed seeds, a chunk at a time;
chunks are shared by two processes. With --state, finished chunks are kept there and not run again, and so is a file of
what failed: each kind (exception and place) with its smallest input. strangers.fuzz-crashes: inputs that raise anything
but what is documented, or kill their process; strangers.fuzz-hangs: inputs that take more than ten seconds.
Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.strangers.fuzz_inputs import Input, drawn, minimised, strategy
from benchmarks.strangers.fuzz_targets import TARGETS, Target

SHARES = {"answers": 400, "algebra": 5, "replies": 330, "readers": 150, "recipes": 75, "templates": 40}
"""Thousandths of the inputs of each target, by its speed."""
CHUNK = 500
HANG_SECONDS = 10
PATIENCE_SECONDS = 60
"""After which a process that does not even notice its alarm is killed: its input is a hang."""
MEMORY_BYTES = 6 << 30
PROCESSES = 2


class Hang(BaseException):
    """An input takes too long. No Exception, which the code under test could catch."""


def _alarm(_signal: int, _frame: object) -> None:
    raise Hang


@lru_cache(maxsize=8)
def target_of(name: str) -> Target:
    return TARGETS[name]()


def inputs_of(name: str, chunk: int, count: int = CHUNK) -> list[Input]:
    """The inputs of a chunk, drawn by its number."""
    target, rng = target_of(name), random.Random(f"{name} {chunk}")
    if chunk % 10 == 9:
        return from_hypothesis(target, chunk, count)
    return [drawn(target.corpus, target.words, rng) for _ in range(count)]


def from_hypothesis(target: Target, number: int, count: int) -> list[Input]:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[Input] = []
    calm = [
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ]
    quiet = settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=calm
    )

    def gather(one: Input) -> None:
        found.append(one)

    seed(number)(quiet(given(strategy(target.words, len(target.corpus[0])))(gather)))()
    return found


def failure(target: Target, one: Input) -> str:
    """What is wrong with what an input does: exception and place, or `hang`; empty where nothing is."""
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        target.check(one)
    except Hang:
        return "hang"
    except Exception as error:  # whatever it is, it is what this looks for
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "thinkling" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
        return f"{type(error).__name__} in {where}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def run_chunk(name: str, chunk: int, begun: Any) -> list[dict[str, Any]]:
    """Failures of a chunk. `begun`: shared array of this process (time that the present input began, its number)."""
    target, failures = target_of(name), []
    kinds: Counter[str] = Counter()
    for number, one in enumerate(inputs_of(name, chunk)):
        begun[0], begun[1] = time.monotonic(), number
        kind = failure(target, one)
        if not kind:
            continue
        kinds[kind] += 1
        small = one
        if kinds[kind] == 1 and kind != "hang":
            begun[0] = 0.0
            small = minimised(one, lambda tried, kind=kind: failure(target, tried) == kind)
        failures.append({"target": name, "chunk": chunk, "number": number, "kind": kind, "input": list(small)})
    begun[0] = 0.0
    return failures


def worker(connection: Any, begun: Any) -> None:
    """Runs the chunks that it is sent, until None."""
    signal.signal(signal.SIGALRM, _alarm)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while (job := connection.recv()) is not None:
        name, chunk = job
        connection.send(run_chunk(name, chunk, begun))


class Workers:
    """Two processes that are replaced where an input takes them down."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.slots = [self._start() for _ in range(processes)]

    def _start(self) -> dict[str, Any]:
        near, far = self.context.Pipe()
        begun = self.context.Array("d", [0.0, 0.0], lock=False)
        process = self.context.Process(target=worker, args=(far, begun))
        process.start()
        far.close()
        return {"process": process, "pipe": near, "begun": begun, "job": None}

    def run(self, jobs: list[tuple[str, int]], done: Any) -> None:
        """`done(job, failures)` for each job."""
        waiting = jobs[::-1]
        while waiting or any(slot["job"] for slot in self.slots):
            for at, slot in enumerate(self.slots):
                if slot["job"] is None and waiting:
                    slot["job"] = waiting.pop()
                    slot["pipe"].send(slot["job"])
                if slot["job"] is None:
                    continue
                failed = self._failures(slot)
                if failed is None:
                    continue
                done(slot["job"], failed)
                slot["job"] = None
                if not slot["process"].is_alive():
                    self.slots[at] = self._start()
        for slot in self.slots:
            slot["pipe"].send(None)
            slot["process"].join()

    def _failures(self, slot: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Of a chunk that has ended, or whose process was lost; None while it runs."""
        (name, chunk), (since, number) = slot["job"], slot["begun"]
        try:
            if slot["pipe"].poll(0.05):
                return slot["pipe"].recv()
            if slot["process"].is_alive() and not (since and time.monotonic() - since > PATIENCE_SECONDS):
                return None
            kind = "hang" if slot["process"].is_alive() else "process died"
        except EOFError:
            kind = "process died"
        slot["process"].kill()
        slot["process"].join()
        lost = list(inputs_of(name, chunk)[int(number)])
        return [{"target": name, "chunk": chunk, "number": int(number), "kind": kind, "input": lost, "cut": True}]


def fuzz(count: int, names: list[str], state: Path) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Inputs run per target, and what failed."""
    state.mkdir(parents=True, exist_ok=True)
    journal = state / "chunks.jsonl"
    kept = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    total = sum(SHARES[name] for name in names)
    jobs = [(name, i) for name in names for i in range(max(1, round(count * SHARES[name] / total / CHUNK)))]
    known = {(row["target"], row["chunk"]) for row in kept}
    rows = [row for row in kept if (row["target"], row["chunk"]) in set(jobs)]
    began = time.monotonic()

    def done(job: tuple[str, int], failures: list[dict[str, Any]]) -> None:
        # a chunk whose process was lost counts up to the input that did it
        ran = next((row["number"] + 1 for row in failures if row.get("cut")), CHUNK)
        row = {"target": job[0], "chunk": job[1], "inputs": ran, "failures": failures}
        rows.append(row)
        with journal.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        if len(rows) % 100 == 0:
            print(f"{len(rows)} of {len(jobs)} chunks, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    Workers().run([job for job in jobs if job not in known], done)
    inputs: Counter[str] = Counter()
    for row in rows:
        inputs[row["target"]] += row["inputs"]
    failures = [one for row in rows for one in row["failures"]]
    smallest: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sorted(failures, key=lambda one: sum(map(len, one["input"]))):
        smallest.setdefault((one["target"], one["kind"]), one)
    (state / "failures.jsonl").write_text("".join(json.dumps(one) + "\n" for one in smallest.values()))
    return inputs, failures


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz what reads foreign input.")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--targets", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument(
        "--state", type=Path, help="folder of finished chunks and failures; a temporary one if not given"
    )
    given = parser.parse_args()
    inputs, failures = fuzz(given.inputs, given.targets, given.state or Path(tempfile.mkdtemp(prefix="fuzz-")))
    kinds = Counter(f"{one['target']}: {one['kind']}" for one in failures)
    print(*(f"{kind}, {count} inputs" for kind, count in kinds.items()), sep="\n")
    hangs = sum(one["kind"] == "hang" for one in failures)
    common = {"n": inputs.total(), "unit": "inputs", "by_target": dict(inputs)}
    measurements = {
        "strangers.fuzz-crashes": {"value": len(failures) - hangs, "kinds": dict(kinds), **common},
        "strangers.fuzz-hangs": {"value": hangs, **common},
    }
    print(json.dumps({"measurements": measurements}))


if __name__ == "__main__":
    main()
