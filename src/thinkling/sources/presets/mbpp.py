"""MBPP (Austin et al. 2021, arXiv 2108.07732), Python problems with assertions, in the full and sanitized versions.

A record has `text` (or `prompt`) and `test_list` (or `test`). It may also have `code`, `test_setup_code`,
`test_imports` and `challenge_test_list`. The first test is public and shown in the question, because the model must
know the name of the function that the tests call. The remaining tests and the challenge tests are hidden. The setup
code runs before the tests.
"""

from __future__ import annotations

from thinkling.sources.presets.base import CODE_ANSWER, BadRecord, Found, Item, Preset, lines


def read(found: Found, seed: int) -> Item:
    text = lines(found.text("question"))
    tests = [lines(test) for test in found.texts("tests") or [] if test.strip()]
    if not tests:
        raise BadRecord("no tests")
    imports = "\n".join(found.texts("imports") or [])
    setup = lines(f"{imports}\n{found.text_or_empty('setup')}")
    first, *others = tests
    further = [lines(test) for test in found.texts("challenge_tests") or []]
    return Item(
        f"{text}\nYour code has to pass this test:\n{first}",
        lines(found.text_or_empty("answer")),
        family=found.text_or_empty("family"),
        id=found.text_or_empty("id"),
        tests=(setup, first) if setup else (first,),
        hidden_tests=(*others, *further),
        bare=text,
    )


MBPP = Preset(
    keys={
        "question": ("text", "prompt"),
        "answer": ("code",),
        "tests": ("test_list", "test"),
        "setup": ("test_setup_code",),
        "imports": ("test_imports",),
        "challenge_tests": ("challenge_test_list",),
        "family": (),
        "id": (),
    },
    read=read,
    verifier="program",
    answer_template=CODE_ANSWER,
    answer_is_solution=True,
)
