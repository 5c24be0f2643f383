"""The list of tags."""

from thinkling.quality.rules import RULES
from thinkling.quality.tags import NAMES, TAGS


def test_there_are_twenty_with_one_rule_each() -> None:
    assert len(TAGS) == len(set(NAMES)) == 20
    assert tuple(RULES) == NAMES
    assert {tag.kind for tag in TAGS} == {"content", "format"}
    assert all(tag.definition and tag.lowest and tag.highest for tag in TAGS)
