"""Resolves the verifier that a problem names: built in, or an entry point of the group `thinkling.verifiers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import entry_points

from thinkling.errors import UserError
from thinkling.tasks.problem import Problem
from thinkling.verify import calculator, exact, maths, program, writing
from thinkling.verify.verdict import Outcome, Verdict

Verifier = Callable[[Problem, str], Verdict]
GROUP = "thinkling.verifiers"
BUILT_IN: dict[str, Verifier] = {
    "exact": exact.verify,
    "calculator": calculator.verify,
    "maths": maths.verify,
    "maths-last-number": maths.verify_by_last_number,
    "program": program.verify,
    "writing": writing.verify,
}


def verify(problem: Problem, completion: str) -> Verdict:
    """Judges a completion in chat form: what the model wrote, tool turns included, or a bare answer.

    A verifier that raises gives an `error` verdict, which withholds the score. UserError: unknown verifier."""
    verifier = resolve(problem.verifier)
    try:
        return verifier(problem, completion)
    except Exception as error:  # a verifier may be the user's own code, and one sample must not end a run
        return Verdict(Outcome.ERROR, problem.verifier, f"{type(error).__name__}: {error}")


def verify_many(samples: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """`verify` for each problem and completion, in order. A verifier with a method `verify_many` (same arguments) is
    given all its samples at once: "maths" then works on several, and a slow one keeps no other waiting."""
    verdicts: dict[int, Verdict] = {}
    for name in dict.fromkeys(problem.verifier for problem, _ in samples):
        mine = [index for index, (problem, _) in enumerate(samples) if problem.verifier == name]
        together = getattr(resolve(name), "verify_many", None)
        if together is None:
            verdicts |= {index: verify(*samples[index]) for index in mine}
            continue
        try:
            found = together([samples[index] for index in mine])
        except Exception as error:  # as in verify
            found = [Verdict(Outcome.ERROR, name, f"{type(error).__name__}: {error}")] * len(mine)
        verdicts |= dict(zip(mine, found, strict=True))
    return [verdicts[index] for index in range(len(samples))]


def needs_sandbox(name: str) -> bool:
    """Whether the verifier of that name runs what a model wrote. Raises UserError for an unknown one."""
    return bool(getattr(resolve(name), "needs_sandbox", False))


@lru_cache(maxsize=64)
def resolve(name: str) -> Verifier:
    """The verifier of that name. Raises UserError where there is none, or where an entry point takes a name twice."""
    found = entry_points(group=GROUP)
    added = [point for point in found if point.name == name]
    if len(added) + (name in BUILT_IN) > 1:
        raise UserError(f"verifier {name!r} is defined more than once; rename the entry point {added[0].value}")
    if name in BUILT_IN:
        return BUILT_IN[name]
    if not added:
        known = ", ".join([*BUILT_IN, *sorted({point.name for point in found})])
        raise UserError(f"unknown verifier {name!r}; there are {known}; add one by an entry point of group {GROUP}")
    try:
        return added[0].load()
    except Exception as error:  # an installed package of the user's may fail to import in any way
        raise UserError(f"verifier {name!r}: {added[0].value} cannot be loaded ({error})") from error
