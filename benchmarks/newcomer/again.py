"""newcomer.again: tiny's curate run again with another `hq_tokens`: relative wall time, and requests to the annotator.

recipes/tiny.yaml is run up to curate from the command line in two versions, each twice. The first version grades by
rules and is timed in wall seconds of the process. The second uses a served annotator: a server in this process whose
grades depend on a digest of the request.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from thinkling.quality.tags import NAMES

RECIPE = ROOT / "recipes" / "tiny.yaml"
BUDGETS = ("1.6M", "1.2M")
ANNOTATED = 300


class Server(ThreadingHTTPServer):
    """Answers and counts requests."""

    requests = 0
    lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        prompt = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        assert isinstance(server, Server)
        with server.lock:
            server.requests += 1
        digest = hashlib.sha256(prompt).digest()
        grades = {name: digest[place] % 10 for place, name in enumerate(NAMES)}
        choice: dict[str, Any] = {"message": {"content": json.dumps(grades)}, "finish_reason": "stop"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [choice]}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Does not log requests."""


@contextmanager
def annotator() -> Iterator[Server]:
    """Runs the server for the duration of the block."""
    server = Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def curate(runs: Path, *overrides: str) -> float:
    """Runs the stage; returns the seconds of the whole command."""
    command = [sys.executable, "-m", "thinkling", "curate", str(RECIPE), "--runs", str(runs)]
    for override in overrides:
        command += ["--set", override]
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, annotator() as server:
        first, again = (curate(Path(folder) / "rules", f"stages.curate.grading.hq_tokens={b}") for b in BUDGETS)
        served = {"url": f"http://127.0.0.1:{server.server_address[1]}/v1", "model": "script"}
        requests = []
        for budget in BUDGETS:
            before = server.requests
            curate(
                Path(folder) / "served",
                f"stages.curate.grading.hq_tokens={budget}",
                f"stages.curate.grading.annotated={ANNOTATED}",
                f"stages.curate.grading.annotator={json.dumps(served)}",
            )
            requests.append(server.requests - before)
    if not requests[0]:
        raise SystemExit("the annotator received no requests, so nothing was measured")
    print(f"seconds {first:.1f}, then {again:.1f}; requests {requests[0]}, then {requests[1]}")
    measured = {
        "newcomer.again": {"value": again / first, "n": 1, "runs": [first, again], "unit": "ratio"},
        "newcomer.again-requests": {"value": requests[1], "n": requests[0], "runs": requests, "unit": "requests"},
    }
    print(json.dumps({"measurements": measured}))


if __name__ == "__main__":
    main()
