"""Curation measured on planted and labelled data. Needs $THINKLING_DATA and thinkling[curate]. Last line: JSON.

Near-duplicates: 1,000 copies of real 490-word passages with 8 words changed, and 1,000 with 60 words changed, which do
not count as duplicates. Leaks: every held-out problem of GSM8K and MATH-500, retyped, once in a real text. Labeller: on
kinds of damage that it never saw in training. Separation of the labelled web pages: 5×5 folds. No page's text is
printed or stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.curation import grades, planted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("planted", "grades"), help="measure only part of the claims")
    only = parser.parse_args().only
    folder = os.environ.get("THINKLING_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("THINKLING_DATA is not set to a folder of real data")
    found: dict[str, dict[str, Any]] = {}
    if only != "grades":
        found |= planted.near_duplicates(Path(folder)) | planted.leaks(Path(folder))
    if only != "planted":
        found |= grades.kappa() | grades.web(Path(folder))
    print(json.dumps({"measurements": found}))


if __name__ == "__main__":
    main()
