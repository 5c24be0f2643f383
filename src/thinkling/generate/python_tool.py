"""The `python` tool: runs code in a sandboxed process and returns the output.

Each sample has its own process. The process stores variables between calls, runs no code between calls, and ends with
the sample. A call's result can depend on the clock because of the time limits. However, the result is part of the
sample's tokens, so using a stored rollout never requires running the code again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from thinkling.sandbox.limits import Limits
from thinkling.sandbox.outcome import Status
from thinkling.sandbox.sandbox import Sandbox
from thinkling.sandbox.session import MOST_CODE, Call, Session

MOST_CALLS = 32
"""Maximum number of calls per sample; a stage's `max_tool_calls` may allow fewer."""
CALL_SECONDS = 10.0
"""Maximum wall-clock seconds per call: as long as a person would wait for a result, with some slack for a busy
machine."""
TOTAL_SECONDS = 60
"""Maximum wall-clock seconds of all calls of a sample together, and maximum CPU seconds of the sample's process."""
MEMORY_BYTES = 512 * 2**20
"""Maximum address space of the process in bytes, of which the interpreter uses about 100 MB."""
OUTPUT_CHARACTERS = 4000
"""Maximum length of a result in characters, which is about a thousand tokens. Longer results are cut in the middle. A
process that prints more than 1 MiB in one call is killed."""
ERROR_LINES = 8
"""Number of lines shown from the end of a traceback."""
LIMITS = Limits(cpu_seconds=TOTAL_SECONDS, wall_seconds=CALL_SECONDS, memory_bytes=MEMORY_BYTES)

DESCRIPTION = (
    "Runs Python code and returns what it prints, and the value of a last expression. Variables, imports and files "
    "stay until the answer is finished. The standard library can be imported; there is no network."
)
SCHEMA = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code."}},
    "required": ["code"],
}
_USAGE = "error: python takes one argument, code, a string"


class PythonTool:
    """Opens one session per sample. The sandbox is opened at the first call and shared by all sessions."""

    def __init__(
        self, limits: Limits = LIMITS, total_seconds: float = TOTAL_SECONDS, sandbox: Sandbox | None = None
    ) -> None:
        """`limits`: the limits of each process; `wall_seconds` is the limit per call. `total_seconds`: maximum
        wall-clock seconds of all calls of a sample. `sandbox`: an existing sandbox to use."""
        self.limits, self.total_seconds = limits, total_seconds
        self._sandbox = sandbox
        self._lock = threading.Lock()

    def open(self) -> PythonSession:
        """Returns a new session, whose process is started at the first call."""
        return PythonSession(self)

    def sandbox(self) -> Sandbox:
        """Returns the sandbox. Raises SandboxUnavailable if this machine does not support sandboxes."""
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(self.limits)
            return self._sandbox


class PythonSession:
    """The calls of one sample."""

    def __init__(self, tool: PythonTool) -> None:
        self._tool = tool
        self._process: Session | None = None
        self._open = ExitStack()
        self._calls, self._seconds = 0, 0.0

    def run(self, arguments: Mapping[str, Any]) -> str:
        """Returns the result of one call. Raises SandboxUnavailable if no process can be started."""
        code = arguments.get("code")
        if not isinstance(code, str) or len(arguments) != 1:
            return _USAGE
        if len(code.encode("utf-8", "surrogatepass")) > MOST_CODE:
            return f"error: the code is longer than {MOST_CODE} bytes"
        if self._calls >= MOST_CALLS:
            return f"error: more than {MOST_CALLS} calls"
        left = self._tool.total_seconds - self._seconds
        if left <= 0:
            return f"error: the calls together took more than {self._tool.total_seconds:g} s"
        self._calls += 1
        if self._process is None:
            self._process = self._open.enter_context(self._tool.sandbox().session(self._tool.limits))
        alone = self._tool.limits.wall_seconds
        call = self._process.run(code, min(left, alone))
        self._seconds += call.seconds
        if call.ended:
            self.close()
        if call.status is Status.TIMEOUT and left < alone:
            call = replace(call, detail=f"the calls together took more than {self._tool.total_seconds:g} s")
        return answer(call)

    def close(self) -> None:
        """Ends the process. A later call starts a new process."""
        self._process = None
        self._open.close()


def answer(call: Call) -> str:
    """Returns the text shown to the model: the output and the error, or a note that there is no output."""
    parts = [call.stdout.rstrip("\n")]
    if call.ended:
        parts.append(f"error: {call.detail}; the process was ended, and its variables are lost")
    elif call.status is not Status.OK:
        lines = call.stderr.rstrip("\n").split("\n")[-ERROR_LINES:]
        parts.append("error: " + ("\n".join(lines).strip("\n") or call.detail))
    return _cut("\n".join(part for part in parts if part)) or "(no output)"


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_CHARACTERS:
        return text
    half = OUTPUT_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


CONCURRENCY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Number of concurrent calls: one per core, because more calls would slow each other down and exceed time limits."""
