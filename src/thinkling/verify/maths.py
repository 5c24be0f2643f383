"""Answers to mathematical problems: exact rules first, then algebra in a pool of processes if they cannot decide.

The tiers, in order, and the outcome of each:

- `same`: reference and answer are the same text in the notation of answers/notation.py → right.
- `reference`: the reference is empty, prose or not mathematics → unverifiable.
- `extract`: no answer in the reply → wrong. See answers/extract.py for where it searches.
- `rules`: answers/rules.py decides exactly → right or wrong.
- `math-verify`: symbolic.py in the pool decides; past its deadline → timeout, past its memory → unverifiable.
- `pool`: there is no pool → error.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import product

from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify.answers.extract import final_answers
from thinkling.verify.answers.forms import Form, Letter
from thinkling.verify.answers.notation import condensed, plain
from thinkling.verify.answers.numbers import Unreadable
from thinkling.verify.answers.reading import choice, read
from thinkling.verify.answers.rules import AnswerComparison, is_value_of_unread_name
from thinkling.verify.pool import Pool, Reply, Request, shared
from thinkling.verify.verdict import Outcome, Verdict

MOST_WORDS = 6
"""Consecutive words from which a reference counts as prose rather than an answer to compare with."""
MOST_CACHED = 100_000
SHORTEST_COPY = 3
"""Minimum length of an expression that counts as copied from the question, in characters."""
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_BOX_OR_HASHES = re.compile(r"\\boxed|####")
_OUTCOMES = {
    "equal": Outcome.RIGHT,
    "different": Outcome.WRONG,
    "unreadable": Outcome.WRONG,
    "undecided": Outcome.UNVERIFIABLE,
    "exhausted": Outcome.UNVERIFIABLE,
    "timeout": Outcome.TIMEOUT,
    "failed": Outcome.ERROR,
}


class MathsVerifier:
    """`last_number`: judge a reply without a marked answer by its last number, for models that do not use marks.

    Results of the pool are cached by (reference, answer), in their common notation, with the question if it was used.
    """

    def __init__(self, last_number: bool = False, pool: Pool | None = None) -> None:
        self.last_number = last_number
        self._pool = pool
        self._known: OrderedDict[Request, Reply] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        """Judges one answer. Use `verify_many` to judge many in parallel."""
        return self.verify_many([(problem, reading)])[0]

    def verify_many(self, samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        """A verdict for each problem and reading, in order. `Problem.answer` is the reference: an answer, or a solution
        that ends with one; `Problem.question` determines which unit or base an answer may omit."""
        plans = [self._plan(problem, reading) for problem, reading in samples]
        replies = self._ask(
            [claim for plan in plans for claims in plan for claim in claims if isinstance(claim, Request)]
        )
        return [_decide(plan, replies) for plan in plans]

    def _plan(self, problem: Problem, reading: Reading) -> list[list[Verdict | Request]]:
        """The comparisons that must hold, for each interpretation of reference and answer."""
        named = () if reading.answer is None else final_answers(reading.answer, self.last_number)
        return [
            [
                self._without_pool(reference, problem.question, answer)
                for reference, answer in product(references, answers)
            ]
            for references, answers in product(
                _readings(reference_answers(problem.answer)), _readings([plain(answer) for answer in named])
            )
        ]

    def _without_pool(self, reference: str, question: str, answer: str) -> Verdict | Request:
        """The verdict, or the request to send to the pool."""
        if answer and condensed(answer) == condensed(reference):
            return Verdict(Outcome.RIGHT, "same", answer)
        try:
            expected = _read_reference(reference)
        except Unreadable as error:
            return Verdict(Outcome.UNVERIFIABLE, "reference", str(error))
        if not answer:
            return Verdict(Outcome.WRONG, "extract", "no readable answer")
        if isinstance(expected, Letter) and expected.letter.isupper() and (chosen := choice(answer)) is not None:
            return Verdict(Outcome.RIGHT if chosen == expected.letter else Outcome.WRONG, "rules", answer)
        asked: list[Form] = []

        def suppose(_: Form, form: Form) -> bool:
            asked.append(form)
            return True

        compare = AnswerComparison(question, suppose)
        try:
            equal = compare.texts(expected, answer)
        except Unreadable as error:
            return Verdict(Outcome.WRONG, "rules", f"{answer}: {error}")
        if equal and asked and _copied(answer, reference, question):
            return Verdict(Outcome.WRONG, "rules", f"{answer}: copied from the question")
        if equal and asked:
            return Request(reference, answer, question)
        if not equal and is_value_of_unread_name(expected, answer, compare):
            return Verdict(Outcome.UNVERIFIABLE, "reference", "it names a quantity that cannot be read")
        return Verdict(Outcome.RIGHT if equal else Outcome.WRONG, "rules", answer)

    def _ask(self, requests: Sequence[Request]) -> dict[Request, Reply]:
        """Cached replies, and new ones from the pool; failures are not cached."""
        with self._lock:
            replies = {request: self._known[request] for request in requests if request in self._known}
        new = [request for request in dict.fromkeys(requests) if request not in replies]
        if new:
            pool = self._pool or shared()
            found = dict(zip(new, pool.compare_many(new), strict=True))
            replies |= found
            with self._lock:
                self._known |= {request: reply for request, reply in found.items() if reply.kind != "failed"}
                while len(self._known) > MOST_CACHED:
                    self._known.popitem(last=False)
        return replies


def reference_answers(text: str) -> list[str]:
    """The reference in the common notation: a bare answer, or the last boxes or `####` line in a solution."""
    return [plain(answer) for answer in (final_answers(text) if _BOX_OR_HASHES.search(text) else (text,))]


def _readings(answers: list[str]) -> list[list[str]]:
    """Possible interpretations of answers given together: the same answer several times, or a list, which may repeat
    some of them and may end with all of them at once."""
    if len(answers) < 2:
        return [["".join(answers)]]
    if _is_list_of(answers[-1], answers[:-1]):
        return [[answers[-1]]]
    once = list({condensed(answer): answer for answer in answers}.values())
    lists = [[", ".join(several)] for several in (once, answers) if len(several) > 1]
    return [once, *(lists if len(once) < len(answers) else lists[:1])]


def _is_list_of(last: str, others: Sequence[str]) -> bool:
    """Whether the last answer summarizes those before it: 1 and 2, and then "1, 2"."""
    return len(others) > 1 and sorted(map(condensed, last.split(", "))) == sorted({condensed(one) for one in others})


def _copied(answer: str, reference: str, question: str) -> bool:
    """Whether an expression appears in the question and the reference does not: the task itself, handed back."""
    asked = condensed(plain(question))
    return len(condensed(answer)) >= SHORTEST_COPY and condensed(answer) in asked and condensed(reference) not in asked


def _read_reference(reference: str) -> Form:
    if len(_WORD.findall(reference)) > MOST_WORDS:
        raise Unreadable("the reference is prose")
    return read(reference)


def _decide(plan: list[list[Verdict | Request]], replies: dict[Request, Reply]) -> Verdict:
    """Right if all parts of one interpretation are right; else the first that is not plainly wrong, or the last."""
    firsts: list[Verdict] = []
    for claims in plan:
        verdicts = [_verdict(claim, replies[claim]) if isinstance(claim, Request) else claim for claim in claims]
        wrong = [verdict for verdict in verdicts if verdict.outcome is Outcome.WRONG]
        other = [verdict for verdict in verdicts if verdict.outcome is not Outcome.RIGHT]
        if not other:
            return verdicts[-1]
        firsts.append((wrong or other)[0])
    return next((verdict for verdict in firsts if verdict.outcome is not Outcome.WRONG), firsts[-1])


def _verdict(request: Request, reply: Reply) -> Verdict:
    tier = "pool" if reply.kind == "failed" else "math-verify"
    return Verdict(_OUTCOMES[reply.kind], tier, f"{request.answer}: {reply.detail}" if reply.detail else request.answer)


verify = MathsVerifier()
verify_by_last_number = MathsVerifier(last_number=True)
