"""Claims that are tests: runs test files and counts what fails.

python -m benchmarks.count_failures A13 cases tests/test_mistakes.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    claim, unit, *paths = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", *paths]
        subprocess.run(command, cwd=REPOSITORY, stdout=sys.stderr, check=False)
        suite = next(ET.parse(report).getroot().iter("testsuite")).attrib
    ran = int(suite["tests"]) - int(suite["skipped"])
    if not ran:
        raise SystemExit(f"no test ran in {' '.join(paths)}")
    failed = int(suite["failures"]) + int(suite["errors"])
    print(json.dumps({"measurements": {claim: {"value": failed, "n": ran, "runs": [failed], "unit": unit}}}))


if __name__ == "__main__":
    main()
