"""Verifier for answers to mathematical problems. Exact rules are tried first; if they cannot decide, a pool of worker
processes compares the expressions algebraically.

The tiers, in order, and their outcomes:

- `same`: reference and answer are identical in the notation of answers/notation.py → right.
- `reference`: the reference is empty, prose or not mathematics → unverifiable.
- `extract`: no answer in the reply (answers/extract.py documents the search) → wrong.
- `rules`: answers/rules.py decides exactly → right or wrong.
- `math-verify`: symbolic.py decides in a worker of the pool → right or wrong; deadline exceeded → timeout; memory limit
  exceeded, or comparison not possible → unverifiable.
- `pool`: the pool failed → error.
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
"""Maximum number of words in a reference. A reference with more words counts as prose, which cannot be compared."""
MOST_CACHED = 100_000
SHORTEST_COPY = 3
"""Minimum length, in characters, of an expression that can count as copied from the question."""
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
    """The verifier. `last_number`: whether to judge the last number of a reply in which no answer is marked, for models
    that do not mark their answers.

    Results of the pool are cached by reference, answer (both in the common notation) and question.
    """

    def __init__(self, last_number: bool = False, pool: Pool | None = None) -> None:
        self.last_number = last_number
        self._pool = pool
        self._known: OrderedDict[Request, Reply] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, problem: Problem, reading: Reading) -> Verdict:
        """Judge one answer. Use `verify_many` to judge many answers in parallel."""
        return self.verify_many([(problem, reading)])[0]

    def verify_many(self, samples: Sequence[tuple[Problem, Reading]]) -> list[Verdict]:
        """Return a verdict for each problem and reading, in order. `Problem.answer` is the reference: an answer, or a
        solution that ends with an answer. `Problem.question` determines which unit or base an answer may omit."""
        plans = [self._plan(problem, reading) for problem, reading in samples]
        replies = self._ask(
            [claim for plan in plans for claims in plan for claim in claims if isinstance(claim, Request)]
        )
        return [_decide(plan, replies) for plan in plans]

    def _plan(self, problem: Problem, reading: Reading) -> list[list[Verdict | Request]]:
        """Return, for each interpretation of reference and answer, the comparisons that must hold."""
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
        """Return the verdict, or a request for the pool if the rules cannot decide."""
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
        """Return cached replies, and replies of the pool for new requests. Failures are not cached."""
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
    """Return the reference in the common notation: the whole text, or the last boxes or `####` line of a solution."""
    return [plain(answer) for answer in (final_answers(text) if _BOX_OR_HASHES.search(text) else (text,))]


def _readings(answers: list[str]) -> list[list[str]]:
    """Return the possible interpretations of several answers given together: repetitions of the same answer, or a list
    of values. A list may contain a value twice, and may be followed by an answer that contains all values."""
    if len(answers) < 2:
        return [["".join(answers)]]
    if _is_list_of(answers[-1], answers[:-1]):
        return [[answers[-1]]]
    once = list({condensed(answer): answer for answer in answers}.values())
    lists = [[", ".join(several)] for several in (once, answers) if len(several) > 1]
    return [once, *(lists if len(once) < len(answers) else lists[:1])]


def _is_list_of(last: str, others: Sequence[str]) -> bool:
    """Whether the last answer summarizes the preceding answers, such as "1, 2" after 1 and 2."""
    return len(others) > 1 and sorted(map(condensed, last.split(", "))) == sorted({condensed(one) for one in others})


def _copied(answer: str, reference: str, question: str) -> bool:
    """Whether the answer repeats an expression of the question, and the question does not contain the reference."""
    asked = condensed(plain(question))
    return len(condensed(answer)) >= SHORTEST_COPY and condensed(answer) in asked and condensed(reference) not in asked


def _read_reference(reference: str) -> Form:
    if len(_WORD.findall(reference)) > MOST_WORDS:
        raise Unreadable("the reference is prose")
    return read(reference)


def _decide(plan: list[list[Verdict | Request]], replies: dict[Request, Reply]) -> Verdict:
    """Combine the comparisons of all interpretations. The verdict is right if all parts of one interpretation are
    right. Otherwise, the first interpretation whose verdict is not wrong decides, or the last interpretation if all are
    wrong."""
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
