"""The cascade: which tier decides, and what; and the frozen table."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.exactness.verifier import read_pairs
from thinkling.data.reading import Reading
from thinkling.tasks.problem import Problem
from thinkling.verify import registry
from thinkling.verify.maths import MathsVerifier, reference_answers
from thinkling.verify.pool import Pool, Reply, Request
from thinkling.verify.verdict import Outcome, Verdict


def problem(reference: str, question: str = "") -> Problem:
    return Problem("0", "maths", question, reference, "", "maths")


class CountingPool(Pool):
    """Remembers what was asked of it."""

    def compare_many(self, requests):  # type: ignore[override]
        self.asked = [*getattr(self, "asked", []), *requests]
        return super().compare_many(requests)


class NoPool(Pool):
    def compare_many(self, requests):  # type: ignore[override]
        return [Reply("failed", "no server") for _ in requests]


@pytest.fixture(scope="module")
def pool() -> Iterator[CountingPool]:
    pool = CountingPool(workers=2, deadline_seconds=2)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("reference", "completion", "outcome", "tier"),
    [
        ("18", "\\boxed{18}", "right", "same"),
        ("18", "\\boxed{18.0}", "right", "rules"),
        ("18", "\\boxed{19}", "wrong", "rules"),
        ("B", "\\boxed{(B) 12}", "right", "rules"),
        ("B", "\\boxed{(A) 12}", "wrong", "rules"),
        ("18", "no idea\nat all", "wrong", "extract"),
        ("18", "", "wrong", "extract"),
        ("18", "\\boxed{\\text{correct}}", "wrong", "rules"),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", "right", "math-verify"),
        (r"\sqrt{8}", r"\boxed{2\sqrt{3}}", "wrong", "math-verify"),
        (r"\sqrt{8}", r"\boxed{\frac\sqrt}", "wrong", "math-verify"),
        (r"\frac\sqrt", r"\boxed{2}", "unverifiable", "math-verify"),
        ("5!!!!!!", r"\boxed{2}", "timeout", "math-verify"),
        ("", "\\boxed{18}", "unverifiable", "reference"),
        ("Let n be even, then so is its square.", "\\boxed{18}", "unverifiable", "reference"),
        ("Let n be even, then so is its square.", "\\boxed{Let n be even, then so is its square.}", "right", "same"),
        ("so 9 * 2 = 18\n#### 18", "\\boxed{18}", "right", "same"),
        ("It is $\\boxed{18}$.", "\\boxed{18}", "right", "same"),
    ],
)
def test_tiers(pool: CountingPool, reference: str, completion: str, outcome: str, tier: str) -> None:
    verdict = MathsVerifier(pool=pool)(problem(reference), Reading.of(completion))
    assert (verdict.outcome, verdict.tier) == (outcome, tier)


def test_the_task_itself_is_no_answer(pool: CountingPool) -> None:
    verify = MathsVerifier(pool=pool)
    asked = problem("15(3x+2)", "Factor $45x + 30$.")
    assert verify(asked, Reading.of("\\boxed{45x+30}")).outcome is Outcome.WRONG
    assert verify(asked, Reading.of("\\boxed{15(2 + 3x)}")).outcome is Outcome.RIGHT
    assert verify(problem("15(3x+2)"), Reading.of("\\boxed{45x+30}")).outcome is Outcome.RIGHT


def test_order_is_kept_and_nothing_is_asked_twice() -> None:
    pool = CountingPool(workers=2)
    verify = MathsVerifier(pool=pool)
    samples = [
        (problem(r"\sqrt{8}"), r"\boxed{2\sqrt{2}}"),
        (problem("18"), r"\boxed{17}"),
        (problem(r"\sqrt{8}"), r"The answer is $2 \sqrt 2$."),
        (problem(r"\sqrt{8}"), r"\boxed{3}"),
        (problem(""), r"\boxed{3}"),
    ]
    outcomes = ["right", "wrong", "right", "wrong", "unverifiable"]
    for _ in range(2):
        assert [
            verdict.outcome for verdict in verify.verify_many([(p, Reading.of(text)) for p, text in samples])
        ] == outcomes
    pool.close()
    assert Counter(request.answer for request in pool.asked) == {r"2\sqrt{2}": 1, r"2 \sqrt{2}": 1, "3": 1}


def test_no_pool_is_an_error_and_is_not_remembered(pool: CountingPool) -> None:
    verify = MathsVerifier(pool=NoPool())
    sample = (problem(r"\sqrt{8}"), Reading.of(r"\boxed{2\sqrt{3}}"))
    assert verify(*sample) == Verdict(Outcome.ERROR, "pool", r"2\sqrt{3}: no server")
    verify._pool = pool
    assert verify(*sample).outcome is Outcome.WRONG


def test_last_number() -> None:
    reply = "There are 9 eggs at $2,\nso she has 18 in all"
    assert MathsVerifier(last_number=True)(problem("18"), Reading.of(reply)).outcome is Outcome.RIGHT
    assert MathsVerifier()(problem("18"), Reading.of(reply)) == Verdict(Outcome.WRONG, "extract", "no readable answer")


def test_reference_answer() -> None:
    assert reference_answers("9 * 2 = 18\n#### 1,800") == ["1,800"]
    assert reference_answers(r"so $\boxed{\dfrac12}$") == [r"\frac{1}{2}"]
    assert reference_answers("18") == ["18"]


def test_by_name() -> None:
    assert registry.verify(problem("18"), Reading.of("\\boxed{18}")).outcome is Outcome.RIGHT
    exact = Problem("0", "sort", "sort 312", "123", "", "exact")
    mixed = [(problem("18"), "\\boxed{18}"), (exact, "132"), (problem("18"), "\\boxed{81}"), (exact, "123")]
    assert [verdict.outcome for verdict in registry.verify_many([(p, Reading.of(text)) for p, text in mixed])] == [
        "right",
        "wrong",
        "wrong",
        "right",
    ]


def test_a_batch_that_fails_is_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(samples: object) -> list[Verdict]:
        raise RuntimeError("no good")

    monkeypatch.setattr(registry.resolve("maths"), "verify_many", broken)
    verdicts = registry.verify_many([(problem("18"), Reading.of("\\boxed{18}"))] * 2)
    assert verdicts == [Verdict(Outcome.ERROR, "maths", "RuntimeError: no good")] * 2


def test_request_is_the_cache_key() -> None:
    assert Request("a", "b") == Request("a", "b", "")
    assert Request("a", "b", "q") != Request("a", "b")


def judge(pairs: list, pool: Pool) -> Counter:
    verdicts = MathsVerifier(pool=pool).verify_many(
        [(problem(pair.reference, pair.question), pair.reading) for pair in pairs]
    )
    return Counter((pair.label, str(verdict.outcome)) for pair, verdict in zip(pairs, verdicts, strict=True))


def test_the_table_is_well_formed() -> None:
    rows = [json.loads(line) for line in (Path(__file__).parent / "maths_pairs.jsonl").read_text().split("\n") if line]
    origins = Counter(row["origin"] == "hand" for row in rows)
    assert origins[True] == origins[False] >= 100
    assert all(row["label"] in ("right", "wrong", "unverifiable") for row in rows)
    assert all({"row", "model"} <= row.keys() and "completion" not in row for row in rows if row["origin"] != "hand")


def test_hand_written_pairs(pool: CountingPool) -> None:
    found = judge(read_pairs(None), pool)
    assert sum(count for (label, outcome), count in found.items() if outcome == "right" and label != "right") == 0
    right = found["right", "right"]
    assert right >= 0.97 * sum(count for (label, _), count in found.items() if label == "right")


def test_real_pairs(pool: CountingPool, real_data: Path) -> None:
    found = judge([pair for pair in read_pairs(real_data) if pair.origin != "hand"], pool)
    assert found.keys() == {("right", "right"), ("wrong", "wrong")}
