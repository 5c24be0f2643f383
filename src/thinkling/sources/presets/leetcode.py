"""LeetCode-style problems, in the format of LeetCodeDataset (arXiv 2504.14655).

A record has `query` (the question), `prompt` (code on which solutions and tests depend: imports, `ListNode`, `TreeNode`
and their helpers), `entry_point` (for example `Solution().twoSum`), `test` (the source of a function `check`) and
`completion` (a solution).
"""

from __future__ import annotations

from thinkling.sources.presets.base import CODE_ANSWER, BadRecord, Found, Item, Preset


def read(found: Found, seed: int) -> Item:
    name = found.text("entry_point").strip()
    if not all(part.isidentifier() for part in name.removeprefix("Solution().").split(".")):
        raise BadRecord("entry_point is neither a name nor a method of Solution()")
    return Item(
        found.text("question"),
        found.text_or_empty("answer").strip(),
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        hidden_tests=(f"{found.text('tests')}\n\ncheck({name})",),
        setup=found.text_or_empty("setup"),
    )


LEETCODE = Preset(
    keys={
        "question": ("query", "problem_description"),
        "answer": ("completion",),
        "tests": ("test",),
        "entry_point": ("entry_point",),
        "setup": ("prompt",),
        "family": (),
        "id": (),
    },
    read=read,
    verifier="program",
    answer_template=CODE_ANSWER,
    answer_is_solution=True,
)
