"""How a stage's configuration asks a source for problems."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from thinkling.stages.base import Need


class ProblemsConfig(BaseModel):
    """Training problems of one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A source that offers problems."""
    n_problems: int | None = Field(default=None, ge=1)
    """Distinct training problems, drawn evenly over the families; all that the source has if not set."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Families of the source that are taken; all of them if not set."""

    def need(self) -> Need:
        """What the stage reads of the source."""
        return Need("problems.source", self.source, "problems", "train", self.n_problems, self.families)
