"""Registry of verifiers: the built-in verifiers, and entry points in the group `thinkling.verifiers`.

A verifier is a callable (problem, reading) → Verdict. It may also have these attributes:

- `verify_many(samples)`: judges several samples at once.
- `needs_sandbox`: true if the verifier runs model-written code.
- `grade(problem, reading) → float`: a grade from 0 to 1.
- `why_unverifiable(problem) → str`: the reason why the problem's tests cannot judge any answer, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thinkling.data.reading import Reading
from thinkling.plugins import Registry
from thinkling.tasks.problem import Problem
from thinkling.verify.verdict import Outcome, Verdict

Verifier = Callable[[Problem, Reading], Verdict]
GROUP = "thinkling.verifiers"
VERIFIERS = Registry(
    "verifier",
    GROUP,
    {
        "exact": "thinkling.verify.exact:verify",
        "maths": "thinkling.verify.maths:verify",
        "maths-last-number": "thinkling.verify.maths:verify_by_last_number",
        "program": "thinkling.verify.program:verify",
        "choice": "thinkling.verify.choice:verify",
        "reasoning-gym": "thinkling.verify.reasoning_gym:verify",
        "stdin-stdout": "thinkling.verify.stdin_stdout:verify",
    },
)


def verify(problem: Problem, reading: Reading) -> Verdict:
    """Judge the reading of a completion, or a bare answer (`Reading.of`).

    If the verifier raises an exception, the verdict is `error`, and the sample is not scored. Raises UserError for an
    unknown verifier."""
    verifier = resolve(problem.verifier)
    try:
        return verifier(problem, reading)
    except Exception as error:  # a verifier may be user code, and one sample must not end a run
        return Verdict(Outcome.ERROR, problem.verifier, f"{type(error).__name__}: {error}")


def verify_many(samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
    """Judge each problem and reading, in order. A verifier with a method `verify_many` receives all its samples in one
    call, so that it can judge them in parallel, as "maths" does."""
    verdicts: dict[int, Verdict] = {}
    for name in dict.fromkeys(problem.verifier for problem, _ in samples):
        mine = [index for index, (problem, _) in enumerate(samples) if problem.verifier == name]
        together = getattr(resolve(name), "verify_many", None)
        if together is None:
            verdicts |= {index: verify(*samples[index]) for index in mine}
            continue
        try:
            found = together([samples[index] for index in mine])
        except Exception as error:  # for the same reason as in `verify`
            found = [Verdict(Outcome.ERROR, name, f"{type(error).__name__}: {error}")] * len(mine)
        verdicts |= dict(zip(mine, found, strict=True))
    return [verdicts[index] for index in range(len(samples))]


def resolve(name: str) -> Verifier:
    """Return the verifier with this name. Raises UserError as `Registry.resolve` does."""
    return VERIFIERS.resolve(name)


def needs_sandbox(name: str) -> bool:
    """Whether the verifier with this name runs model-written code. Raises UserError for an unknown verifier."""
    return bool(getattr(resolve(name), "needs_sandbox", False))


def why_unverifiable(problem: Problem) -> str:
    """Return the reason why the tests of a problem cannot judge any answer. The reason is empty if the tests can judge
    answers, or if the verifier has no method `why_unverifiable`. Raises UserError for an unknown verifier."""
    if not (problem.tests or problem.hidden_tests):
        return ""
    judge = getattr(resolve(problem.verifier), "why_unverifiable", None)
    return "" if judge is None else judge(problem)


def grader(name: str) -> Callable[[Problem, Reading], float] | None:
    """Return the method `grade` of the verifier with this name, or None. Raises UserError for an unknown verifier."""
    return getattr(resolve(name), "grade", None)
