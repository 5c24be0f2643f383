"""A machine that lacks a feature is refused, and the feature is named."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from thinkling.errors import UserError
from thinkling.sandbox import kernel
from thinkling.sandbox.limits import Job, Limits
from thinkling.sandbox.outcome import Outcome, SandboxUnavailable, Status
from thinkling.sandbox.probes import probe
from thinkling.sandbox.sandbox import Sandbox

# Opens a sandbox under a filter of our own that makes one call fail, as on a kernel or in a container without it.
WITHOUT = """
import sys
from thinkling.errors import UserError
from thinkling.sandbox import kernel
from thinkling.sandbox.sandbox import Sandbox
word, constant, code = map(int, sys.argv[1:])
kernel.forbid_new_privileges()
kernel.InstallableFilter([
    (0x20, 0, 0, word), (0x15, 0, 1, constant), (0x06, 0, 0, 0x50000 | code), (0x06, 0, 0, 0x7FFF0000),
]).install()
try:
    Sandbox()
except UserError as error:
    print(type(error).__name__, error)
"""


def test_this_machine_has_what_it_takes_or_says_what_is_missing() -> None:
    missing = kernel.missing_feature()
    if missing is None:
        Sandbox().close()
    else:
        with pytest.raises(SandboxUnavailable, match="sandbox: "):
            Sandbox()


@pytest.mark.parametrize(
    ("word", "constant", "code", "named"),
    [
        (0, 444, errno.ENOSYS, "no Landlock (Function not implemented): the kernel is older than 5.13"),
        (0, 444, errno.EPERM, "the container's seccomp profile forbids it"),
        (0, 444, errno.EOPNOTSUPP, "add landlock to its lsm= parameter"),
        (16, 22, errno.EINVAL, "no seccomp filters"),
    ],
)
def test_the_missing_feature_is_named(word: int, constant: int, code: int, named: str) -> None:
    if kernel.missing_feature() is not None:
        pytest.skip(f"nothing left to take away: {kernel.missing_feature()}")
    command = [sys.executable, "-c", WITHOUT, str(word), str(constant), str(code)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.startswith("SandboxUnavailable sandbox: "), run.stderr
    assert named in run.stdout


def test_a_child_that_cannot_lock_itself_in_says_why(sandbox: Sandbox) -> None:
    outcome = sandbox.run("print(1)", files={"x" * 300: b""})
    assert (outcome.status, outcome.stdout) == (Status.UNAVAILABLE, "")
    assert "could not be closed: OSError" in outcome.detail
    assert "name too long" in outcome.detail


def test_it_is_a_users_error() -> None:
    assert issubclass(SandboxUnavailable, UserError)


def fake(got_through: list[str], endless: Status = Status.TIMEOUT) -> Callable[[Job, Limits], Outcome]:
    answers = iter(
        [
            Outcome(Status.OK, json.dumps(got_through), "", 0, "", "", "", 0.1, 0.1),
            Outcome(endless, "", "", None, "", "", "", 0.1, 0.1),
        ]
    )

    def run(job: Job, limits: Limits) -> Outcome:
        return next(answers)

    return run


@pytest.mark.parametrize(
    ("got_through", "endless", "named"),
    [
        (["a UDP socket", "a private file", "a thread"], Status.TIMEOUT, "was not stopped from using a UDP socket"),
        (
            ["a new process", "3 GB of memory", "a private file", "a thread"],
            Status.TIMEOUT,
            "a new process, 3 GB of memory",
        ),
        (["a thread"], Status.TIMEOUT, "set TMPDIR"),
        (["a private file", "a thread"], Status.OK, "an endless loop"),
    ],
)
def test_a_probe_that_gets_through_refuses(got_through: list[str], endless: Status, named: str) -> None:
    with pytest.raises(SandboxUnavailable, match=named):
        probe(fake(got_through, endless))


def test_probes_pass_where_only_the_wanted_gets_through() -> None:
    probe(fake(["a private file", "a thread"]))
