"""The style in words: strict readers."""

from hypothesis import given
from hypothesis import strategies as st

from thinkling.generate.backends import Reply
from thinkling.stages.refine.style import Solution
from thinkling.stages.refine.words import Words

WORDS = Words()
SOLUTION = Solution("", "Adding gives\n7 apples.")


def test_checklist() -> None:
    assert WORDS.checklist("1. Names a number\n\n2) Shows the sum") == ["Names a number", "Shows the sum"]
    for bad in ("", "Sure!\n1. A", "1. A\n3. B", "1. A\n2. A", "\n".join(f"{i}. item {i}" for i in range(1, 30))):
        assert WORDS.checklist(bad) is None


def test_critique() -> None:
    assert WORDS.critique("1. PASS\n2. FAIL: the sum is off", ["a", "b"]) == [True, False]
    for bad in ("1. PASS", "1. PASS\n2. MAYBE", "2. PASS\n1. PASS", "1. PASS\n2. PASS\n3. PASS", "1. PASSED\n2. PASS"):
        assert WORDS.critique(bad, ["a", "b"]) is None


def test_revision_and_chain() -> None:
    assert WORDS.revision("<solution>\n7\n</solution>") == Solution("", "7")
    for bad in ("7", "<solution></solution>", "</solution>7<solution>", "<solution>7</solution><solution>8</solution>"):
        assert WORDS.revision(bad) is None
    text = "<summary>add</summary><chain>3 and 4</chain><result>{}</result>"
    found = WORDS.chain(text.format("7  apples."), SOLUTION)
    assert found is not None
    assert (found.summary, found.text, found.agrees) == ("add", "3 and 4", True)
    other = WORDS.chain(text.format("8 apples."), SOLUTION)
    assert other is not None
    assert not other.agrees
    assert WORDS.chain("<summary>add</summary><chain>3 and 4</chain>", SOLUTION) is None


@given(st.text())
def test_readers_take_anything(text: str) -> None:
    WORDS.checklist(text), WORDS.critique(text, ["a"]), WORDS.revision(text), WORDS.chain(text, SOLUTION)  # pyright: ignore[reportUnusedExpression]
    draft = WORDS.draft(Reply(text))
    assert (draft is None) == (not text.strip())


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_critiques_are_read_back(marks: list[bool]) -> None:
    text = "\n".join(f"{i}. {'PASS' if m else 'FAIL: no'}" for i, m in enumerate(marks, 1))
    assert WORDS.critique(text, ["x"] * len(marks)) == marks


def test_prompts_hold_the_material() -> None:
    for prompt in (
        WORDS.evaluate_prompt("What is 3+4?", SOLUTION, ["Names it"]),
        WORDS.revise_prompt("What is 3+4?", SOLUTION, ["Names it"], "1. FAIL: no"),
        WORDS.chain_prompt("What is 3+4?", SOLUTION),
    ):
        assert "What is 3+4?" in prompt
        assert SOLUTION.answer in prompt
