"""Claims that are tests: runs test files and counts failures.

python -m benchmarks.exactness.count_failures exact.mistakes cases tests/test_mistakes.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.machine import ROOT


def counts(report: Path) -> tuple[int, int]:
    """Tests run and tests failed, from pytest's JUnit report."""
    suite = next(ET.parse(report).getroot().iter("testsuite")).attrib
    return int(suite["tests"]) - int(suite["skipped"]), int(suite["failures"]) + int(suite["errors"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("claim", help="the claim's id")
    parser.add_argument("unit", help="the claim's unit, i.e. what it calls the tests")
    parser.add_argument("paths", nargs="+", help="test files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", *arguments.paths]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        ran, failed = counts(report)
    if not ran:
        raise SystemExit(f"no test ran in {' '.join(arguments.paths)}")
    measured = {"value": failed, "n": ran, "runs": [failed], "unit": arguments.unit}
    print(json.dumps({"measurements": {arguments.claim: measured}}))


if __name__ == "__main__":
    main()
