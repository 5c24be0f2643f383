"""The definition of an experiment: arms that are trained and compared seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thinkling.data.artifact import Artifact
from thinkling.pipeline.recipe import Recipe

Overrides = list[str]
"""As on the command line: `stages.dpd.steps=80`."""
Done = Mapping[str, Mapping[str, Artifact]]
"""Arm → stage → artifact, for finished arms."""
Entries = dict[str, dict[str, Any]]
"""Arm → its figures: `value`, `overrides`, `seconds` and any others."""


@dataclass(frozen=True)
class Arm:
    """One setting. `overrides` may depend on the results of earlier arms, for example to match compute."""

    name: str
    title: str
    overrides: Callable[[Recipe, Done], Overrides]


@dataclass(frozen=True)
class Finished:
    """An arm that has run: its recipe, its overrides, and its artifacts by stage."""

    name: str
    recipe: Recipe
    overrides: Overrides
    artifacts: Mapping[str, Artifact]


def nothing_to_check(found: Entries) -> None:
    """For experiments whose arms do not have to agree in anything."""


@dataclass(frozen=True)
class Experiment:
    """Arms that are compared seed by seed."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    targets: tuple[str, ...]
    """Stages that every arm runs, along with their inputs."""
    outcome: Callable[[Finished], Entries]
    """Reads the figures of a finished arm, and of the checkpoint before it if there is one."""
    pairs: tuple[tuple[str, str], ...]
    """(arm, arm to subtract from it)."""
    metric: str
    """The quantity that is compared."""
    unit: str
    lower_is_better: bool
    seeds: tuple[int, ...]
    starts_from: str | None = None
    """Name under which `outcome` reports the checkpoint that all arms started from."""
    check: Callable[[Entries], None] = nothing_to_check
    """Raises RuntimeError if the arms of a seed are not comparable."""
