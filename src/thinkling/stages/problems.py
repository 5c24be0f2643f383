"""How a stage's configuration selects problems from a source."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import Need


class ProblemsConfig(BaseModel):
    """Training problems of one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """Name of a source that provides problems."""
    n_problems: int | None = Field(default=None, ge=1)
    """Number of distinct training problems, drawn evenly across families. If not set, all problems of the source are
    used."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Problem families to use. If not set, all families of the source are used."""

    def need(self) -> Need:
        """Returns the problems that the stage reads from the source."""
        return Need("problems.source", self.source, "problems", "train", self.n_problems, self.families)
