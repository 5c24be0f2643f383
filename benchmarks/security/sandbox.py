"""Whether the sandbox resists attacks, how fast it is, and whether honest programs run in it.

Attacks (benchmarks/security/sandbox_arena.py) run as root and as nobody if this process is root,
otherwise as this user. Speed is measured on one core with a trivial program, alternating with bubblewrap. Every
reference solution of MBPP has to pass its own tests in the sandbox, with the code run before `test_setup_code`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.security.sandbox_arena import all_attacks
from thinkling.errors import UserError
from thinkling.sandbox.limits import Limits
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.suite import Suite

NOBODY = 65534
PROGRAM = "print(1)"
ROUNDS, RUNS, PEER_RUNS = 7, 300, 20


def main() -> None:
    """Prints the measurements as the last line."""
    measurements = {"security.sandbox-attacks": _attacks(), **_speed(), "security.sandbox-mbpp": _mbpp()}
    print(json.dumps({"measurements": measurements}))


def as_users(module: str) -> dict[int, dict[str, Any]]:
    """User → the JSON on the last line of a module's output; runs as root and as nobody if this process is root."""
    users = [os.getuid(), NOBODY] if os.getuid() == 0 else [os.getuid()]
    found = {}
    for user in users:
        python = sys.executable if user == os.getuid() else _python_for_all()
        environment = {"PYTHONPATH": os.fspath(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
        run = subprocess.run(
            [python, "-m", module],
            cwd=ROOT,
            env=environment,
            user=user,
            group=user,
            extra_groups=[] if os.getuid() == 0 else None,
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise UserError(f"the attacks as user {user} did not run: {run.stderr[-500:]}")
        found[user] = json.loads(run.stdout.splitlines()[-1])
    return found


def _attacks() -> dict[str, Any]:
    found = as_users("benchmarks.security.sandbox_arena")
    users = list(found)
    names = [attack.name for attack in all_attacks()]
    succeeded = [f"{name} as {user}" for user in users for name in names if found[user][name][0]]
    outside = {name: [found[user][name][1] for user in users] for name in names}
    print(f"attacks: {len(names)} programs as users {users}; succeeded: {succeeded or 'none'}")
    return {
        "value": len(succeeded),
        "n": len(names),
        "unit": "attacks",
        "runs": [sum(found[user][name][0] for name in names) for user in users],
        "users": users,
        "controls_that_succeed_outside": sum(True in tries for tries in outside.values()),
        "controls_that_fail_outside": [name for name, tries in outside.items() if False in tries and True not in tries],
        "without_control": [name for name, tries in outside.items() if set(tries) == {None}],
    }


def _python_for_all() -> str:
    """A Python that nobody can start; root's own may be in root's home."""
    own = os.path.realpath(sys.executable)
    for python in (own, *(shutil.which(f"python3{minor}") for minor in ("", ".11", ".12", ".13")), "/usr/bin/python3"):
        if python is None:
            continue
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run([python, "-c", check], user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 0:
                return python
        except PermissionError:
            continue
    raise UserError("no Python ≥ 3.11 that nobody can start; install one outside root's home (apt-get install python3)")


def _speed() -> dict[str, Any]:
    bubblewrap = _bubblewrap()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    ours, theirs = [], []
    try:
        with Sandbox() as sandbox:
            for _ in range(ROUNDS):
                started = time.perf_counter()
                for _ in range(RUNS):
                    assert sandbox.run(PROGRAM).stdout == "1\n"
                ours.append(RUNS / (time.perf_counter() - started))
                started = time.perf_counter()
                for _ in range(PEER_RUNS):
                    assert subprocess.run(bubblewrap, capture_output=True, check=True).stdout == b"1\n"
                theirs.append(PEER_RUNS / (time.perf_counter() - started))
    finally:
        os.sched_setaffinity(0, cores)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(f"runs/s on one core: {[round(one) for one in ours]}; bubblewrap: {[round(one, 1) for one in theirs]}")
    return {
        "security.sandbox-rate": {
            "value": statistics.median(ours),
            "low": min(ours),
            "high": max(ours),
            "n": ROUNDS * RUNS,
            "runs": ours,
            "unit": "runs/s",
            "load": os.getloadavg()[0],
        },
        "security.sandbox-bubblewrap": {
            "value": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "n": ROUNDS * PEER_RUNS,
            "runs": ratios,
            "unit": "×",
            "peer_runs_per_second": theirs,
            "peer_version": subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout.strip(),
        },
    }


def _bubblewrap() -> list[str]:
    """The same program in its own namespaces, with read access to the library only."""
    if shutil.which("bwrap") is None:
        raise UserError("bubblewrap is not installed; apt-get install bubblewrap")
    python = os.path.realpath(sys.executable)
    shown = ["/usr", "/lib", "/lib64", os.path.dirname(os.path.dirname(python)), sysconfig.get_path("stdlib")]
    binds = [part for path in dict.fromkeys(shown) if os.path.exists(path) for part in ("--ro-bind", path, path)]
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
    return ["bwrap", *options, *binds, "--tmpfs", "/tmp", python, "-I", "-S", "-c", PROGRAM]


def _mbpp() -> dict[str, Any]:
    data = os.environ.get("THINKLING_DATA")
    if not data:
        raise UserError("THINKLING_DATA is not set; set it to the folder of real data")
    rows = [json.loads(line) for line in (Path(data) / "mbpp" / "mbpp.jsonl").read_text().split("\n") if line]
    failed = []
    tests = 0
    with Sandbox(Limits(cpu_seconds=60, wall_seconds=300.0)) as sandbox:  # judged by their tests, not by time
        for row in rows:
            suite = Suite.read(row["test_list"], row["test_setup_code"])
            tests += len(suite.tests.tests)
            if not suite.passed(sandbox.run_job(suite.job(row["code"]))):
                failed.append(row["task_id"])
    print(f"MBPP: {len(rows) - len(failed)} of {len(rows)} pass; failed: {failed or 'none'}")
    return {"value": len(rows) - len(failed), "n": len(rows), "unit": "programs", "tests": tests, "failed": failed}


if __name__ == "__main__":
    main()
