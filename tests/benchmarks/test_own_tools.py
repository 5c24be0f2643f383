"""docs/tools.md's package, built and installed by pip, is what a recipe finds: the claims own-data.tools-*."""

from pathlib import Path

import pytest

from benchmarks.own_data import tools


def test_a_tool_and_a_verifier_are_ten_lines_at_most() -> None:
    package = tools.package_of_the_page()
    counts = {file: tools.lines(package[file]) for file in tools.COUNTED}
    assert max(counts.values()) <= 10
    assert min(counts.values()) > 2
    assert tools.lines("a\n\n  \n b\n") == 2


@pytest.mark.slow
def test_an_installed_tool_answers_and_an_installed_verifier_judges(tmp_path: Path) -> None:
    used = tools.use(tmp_path)
    assert used["answered"] == [True] * 4, used["texts"]
    assert used["right"] == [True] * 4


def test_the_tools_of_the_page_answer() -> None:
    """The page's files by themselves, without an installation."""
    package = tools.package_of_the_page()
    found: dict[str, dict] = {}
    for file in tools.COUNTED:
        namespace: dict = {}
        exec(compile(package[file], file, "exec"), namespace)
        found[file] = namespace
    letters, notes = found["my_package/tool.py"]["LETTERS"], found["my_package/notes.py"]["NOTES"]
    assert letters.session().run({"text": "listen"}) == "6"
    assert letters.session().run({}) == "error: letters takes one argument, text, a string"
    session = notes.session()
    assert [session.run({"note": note}) for note in ("a", "b")] == ["a", "a\nb"]
    session.close()
    assert notes.session().run({"note": "c"}) == "c"
