"""Registries of what packages may add."""

from importlib.metadata import EntryPoint

import pytest

from thinkling import plugins
from thinkling.errors import UserError
from thinkling.plugins import Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    points = [
        EntryPoint("good", "json:dumps", "things"),
        EntryPoint("broken", "no_such_package:thing", "things"),
        EntryPoint("twice", "json:dumps", "things"),
        EntryPoint("twice", "json:loads", "things"),
        EntryPoint("own", "json:loads", "things"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    return Registry("thing", "things", {"own": "json:dump"})


def test_built_in_and_added_objects_are_found(registry: Registry) -> None:
    import json

    assert registry.resolve("good") is json.dumps
    assert Registry("thing", "none", {"own": "json:dump"}).resolve("own") is json.dump
    assert registry.names() == ["own", "broken", "good", "twice"]
    assert "good" in registry
    assert "bad" not in registry


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"thing 'broken': no_such_package:thing cannot be loaded \(No module named"),
        ("twice", "thing 'twice' is defined more than once; rename the entry point json:dumps"),
        ("own", "thing 'own' is defined more than once; rename the entry point json:loads"),
        (
            "absent",
            "unknown thing 'absent'; use one of own, broken, good, twice; a package can add .* group things",
        ),
    ],
)
def test_a_broken_or_clashing_plug_in_is_named_when_it_is_used(registry: Registry, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.resolve(name)
