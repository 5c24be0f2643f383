"""Attacks through the `python` tool: all programs in the sandbox's suite, and attacks across calls.

Attacks across calls are the programs in tests/sandbox/session_attacks, split into calls by the lines `# --- next call`,
`# --- pause` (a call after a pause) and `# --- next rollout` (the process has ended, and another sample follows).
Another rollout is open at the same time, with a secret in a variable and in a file. An attack succeeds if

- something of its kind happens (benchmarks/security/sandbox_arena.py): the tool's answer contains BREACH or the secret,
  other than as an echo of the program, or something outside has changed;
- a call takes more than a second longer than its limit, or an answer is longer than allowed;
- the tool raises, or answers that it failed itself;
- the process is not paused after a call, or still exists when its sample has ended;
- the state of another rollout, or the results of the next one, are wrong.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.security.sandbox_arena import Arena, Attack, all_attacks, child_user
from thinkling.generate.python_tool import OUTPUT_CHARACTERS, PythonSession, PythonTool
from thinkling.sandbox.limits import Limits

ACROSS_CALLS = Path(__file__).resolve().parents[2] / "tests" / "sandbox" / "session_attacks"
LIMITS = Limits(cpu_seconds=2, wall_seconds=1.0)
TOTAL_SECONDS = 2.5
"""Limit on wall time for all calls of a sample."""
SLACK_SECONDS, PAUSE_SECONDS = 1.0, 1.0
_CUT = re.compile(r"^# --- (next call|pause|next rollout)\n", re.MULTILINE)
_NOTE = "characters left out"
_CHECK = "import os, threading\nprint(6 * 7, os.listdir('.'), threading.active_count(), sorted(globals())[:1])"
_CHECKED = "42 [] 1 ['__builtins__']"


def attacks_across_calls() -> list[Attack]:
    """The attacks across calls, sorted by name."""
    found = []
    for path in sorted(ACROSS_CALLS.glob("*.py")):
        found.append(Attack(path.stem, path.read_text(), "effect", "none"))
    return found


def through_tool(attack: Attack) -> Attack:
    """A program of the suite as calls, followed by another call; a `twice` program is run by two rollouts."""
    again = attack.code if attack.kind == "twice" else "print(6 * 7)\n"
    return Attack(
        attack.name, f"{attack.code}\n# --- next call\nprint('here')\n# --- next rollout\n{again}", "effect", "none"
    )


@dataclass
class Trial:
    """One attack in progress. `found`: why it succeeded, if it did."""

    arena: Arena
    tool: PythonTool
    found: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def run(self, attack: Attack) -> list[str]:
        """Reasons why the attack succeeded; empty if it failed."""
        other, state = self.tool.open(), secrets.token_hex(16)
        keep = f"import os\nstate_of_other = {state!r}\nopen('note', 'w').write(state_of_other)"
        pid, folder = other.run({"code": f"{keep}\nprint(os.getpid(), os.getcwd())"}).split()
        code = self.arena.fill_in(attack.code.replace("@OTHER@", pid).replace("@OTHER_FOLDER@", folder))
        for rollout in re.split(r"^# --- next rollout\n", code, flags=re.MULTILINE):
            self._rollout(rollout)
        if (answer := other.run({"code": "print(state_of_other, open('note').read())"})) != f"{state} {state}":
            self.found.append(f"another rollout's state is {answer!r}")
        if any(state in answer for answer in self.answers):
            self.found.append("another rollout's state is known")
        other.close()
        if (answer := self._fresh(_CHECK)) != _CHECKED:
            self.found.append(f"the next rollout finds {answer!r}")
        self.found += [f"changed: {name}" for name in self.arena.changes()]
        return self.found

    def _fresh(self, code: str) -> str:
        session = self.tool.open()
        try:
            return session.run({"code": code})
        finally:
            session.close()

    def _rollout(self, code: str) -> None:
        session = self.tool.open()
        try:
            pid = session.run({"code": "import os\nprint(os.getpid())\ndel os"})
            before = ""
            for part in _CUT.split(code):
                if part in ("next call", "pause"):
                    time.sleep(0.5 if part == "pause" else 0.0)
                    continue
                before += part
                self._call(session, part, before, pid)
        except Exception as error:
            self.found.append(f"the tool raised {type(error).__name__}: {error}")
        finally:
            session.close()
        if pid.isdigit() and os.path.exists(f"/proc/{pid}"):
            self.found.append("its process is still there")

    def _call(self, session: PythonSession, code: str, source: str, pid: str) -> None:
        started = time.monotonic()
        answer = session.run({"code": code})
        if time.monotonic() - started > LIMITS.wall_seconds + SLACK_SECONDS:
            self.found.append("the call went on past its limit")
        if len(answer) > OUTPUT_CHARACTERS + len(_NOTE) + 40:
            self.found.append(f"an answer of {len(answer)} characters")
        if "fork-server has gone" in answer or "killed from outside" in answer or "could not be closed" in answer:
            self.found.append(f"not judged: {answer}")
        self.answers.append(answer)
        # A traceback contains lines of the program, which mention BREACH, and the paths filled into it.
        lines = {line.strip() for line in source.splitlines()}
        said = "\n".join(line for line in answer.splitlines() if line.strip() not in lines)
        if "BREACH" in said or self.arena.secret in said.replace(os.fspath(self.arena.secret_file), ""):
            self.found.append(f"it said {said[:80]!r}")
        if not _paused_or_gone(pid):
            self.found.append("its process is not paused")


def _paused_or_gone(pid: str) -> bool:
    until = time.monotonic() + PAUSE_SECONDS
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TXZ":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.002)
    return False


def all_trials() -> list[Attack]:
    """Every attack, as calls of the tool."""
    return [*map(through_tool, all_attacks()), *attacks_across_calls()]


def main() -> None:
    """Runs all attacks as the current user and prints a JSON object: name → why it succeeded, if it did."""
    if "ARENA_SECRET" not in os.environ:  # as in sandbox_arena
        os.environ["ARENA_SECRET"] = secrets.token_hex(16)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.security.tool_arena"])
    found = {}
    with Arena(child_user()) as arena:
        tool = PythonTool(LIMITS, TOTAL_SECONDS)
        for number, attack in enumerate(all_trials()):
            found[f"{number:03d} {attack.name}"] = Trial(arena, tool).run(attack)
            arena.reset()
        tool.sandbox().close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
