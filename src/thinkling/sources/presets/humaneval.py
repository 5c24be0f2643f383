"""HumanEval (Chen et al. 2021, arXiv 2107.03374).

A record has `prompt` (a function's signature and docstring), `test` (the source of a function `check`) and
`entry_point` (the name of the function that is passed to `check`).
"""

from __future__ import annotations

from thinkling.sources.presets.base import CODE_ANSWER, BadRecord, Found, Item, Preset


def read(found: Found, seed: int) -> Item:
    head, name = found.text("question"), found.text("entry_point")
    if not name.isidentifier():
        raise BadRecord("entry_point is not a name")
    ending = found.get("answer")
    answer = f"{head}\n{ending.rstrip()}" if isinstance(ending, str) and ending.strip() else ""
    return Item(
        f"Complete this function. Reply with the whole program in a Python code block.\n```python\n{head}\n```",
        answer,
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        hidden_tests=(f"{found.text('tests')}\n\ncheck({name})",),
        bare=head,
    )


HUMANEVAL = Preset(
    keys={
        "question": ("prompt",),
        "answer": ("canonical_solution",),
        "tests": ("test",),
        "entry_point": ("entry_point",),
        "family": (),
        "id": (),
    },
    read=read,
    verifier="program",
    answer_template=CODE_ANSWER,
    answer_is_solution=True,
)
