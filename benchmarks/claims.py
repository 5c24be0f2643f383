"""Schemas of claims.yaml (what the project claims) and of results/*.json (what was measured)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from thinkling.errors import UserError

Operator = Literal["<", "<=", "==", ">=", ">", "interval_above", "stated"]
ID_PATTERN = r"^[a-z]+(-[a-z]+)*\.[a-z0-9]+([.-][a-z0-9]+)*$"
FORMER_ID_PATTERN = r"^[A-Z]\d+[a-z]?$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Claim(_Strict):
    """One bar."""

    id: str = Field(pattern=ID_PATTERN)
    statement: str = Field(min_length=1)
    operator: Operator
    bar: float | None
    """None only for `stated`."""
    unit: str = Field(min_length=1)
    peer: str | None
    """What the value is compared with."""
    command: str
    """The script that measures it: `python -m benchmarks.FOLDER.NAME …`, run from the repository root."""
    half_width: float | None = Field(default=None, gt=0)
    """For `stated`: maximum half-width of the interval, in `unit`, fixed before the run."""
    was: str | None = Field(default=None, pattern=FORMER_ID_PATTERN)
    """The claim's id from before ids were by topic."""
    superseded_by: str | None = Field(default=None, pattern=ID_PATTERN)
    """The claim that replaces this one, which is then measured only when named."""

    @field_validator("command")
    @classmethod
    def _is_a_script_of_ours(cls, command: str) -> str:
        if not re.fullmatch(r"python -m benchmarks(\.\w+)+( (?!/)[\w./=-]+)*", command):
            raise ValueError("a command has the form `python -m benchmarks.FOLDER.NAME [arguments]`")
        return command

    @model_validator(mode="after")
    def _bar_fits_operator(self) -> Claim:
        if (self.bar is None) != (self.operator == "stated"):
            raise ValueError("every operator except `stated` needs a bar; `stated` has none")
        if self.half_width is not None and self.operator != "stated":
            raise ValueError("half_width is only for the operator `stated`")
        return self

    @property
    def topic(self) -> str:
        """The part of the id before the dot: `speed` of `speed.train-cpu-0.3m`."""
        return self.id.partition(".")[0]


class Claims(_Strict):
    """All of claims.yaml."""

    claims: tuple[Claim, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_differ(self) -> Claims:
        ids = [claim.id for claim in self.claims]
        for duplicate in sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"id {duplicate} is given twice")
        former = [claim.was for claim in self.claims if claim.was is not None]
        for duplicate in sorted({one for one in former if former.count(one) > 1}):
            raise ValueError(f"`was: {duplicate}` is given twice")
        for claim in self.claims:
            if claim.superseded_by is not None and claim.superseded_by not in ids:
                raise ValueError(f"{claim.id} is superseded by {claim.superseded_by}, which does not exist")
        return self

    def topics(self) -> list[str]:
        """The topics in the order of the file."""
        return list(dict.fromkeys(claim.topic for claim in self.claims))

    def of(self, topic: str) -> list[Claim]:
        """The claims of one topic."""
        return [claim for claim in self.claims if claim.topic == topic]


class Measurement(_Strict, extra="allow"):
    """What a script measured for one claim. Extra fields (absolute speeds, fractions, seeds) are kept as details."""

    __pydantic_extra__: dict[str, JsonValue]

    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the interval; None if the value is a count."""
    n: int = Field(ge=1)
    """Number of items measured: runs, prompts, problems, mixtures."""
    runs: int | list[JsonValue] = 1
    """The value of each run, or the number of runs."""
    unit: str

    @model_validator(mode="after")
    def _ends_in_order(self) -> Measurement:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("the low end is above the high end")
        return self


class Payload(_Strict, extra="ignore"):
    """The JSON object that a script prints on its last line."""

    measurements: dict[str, Measurement]


class Result(_Strict):
    """One entry of results/*.json."""

    id: str
    value: float
    low: float | None
    high: float | None
    n: int
    runs: int | list[JsonValue]
    unit: str
    bar: float | None
    holds: bool
    commit: str
    machine: str
    command: str


class Results(_Strict):
    """All of results/TOPIC.json."""

    claims: tuple[Result, ...]
    details: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Claim id → figures stored with its value."""


def holds(claim: Claim, measured: Measurement) -> bool:
    """Whether the measurement meets the bar."""
    if claim.operator == "stated":
        if measured.low is None or measured.high is None:
            return False
        return claim.half_width is None or (measured.high - measured.low) / 2 <= claim.half_width
    bar = claim.bar
    assert bar is not None
    if claim.operator == "interval_above":
        return measured.low is not None and measured.low > bar
    value = measured.value
    return {"<": value < bar, "<=": value <= bar, "==": value == bar, ">=": value >= bar, ">": value > bar}[
        claim.operator
    ]


def first_error(error: ValidationError) -> str:
    """The first validation error on one line: `claims.3.bar: …`."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def load_claims(path: Path) -> Claims:
    """Reads claims.yaml. Raises UserError with the file and the field."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return Claims.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {first_error(error)}") from None


def read_results(path: Path) -> Results:
    """One file of results, empty if the file does not exist. Raises UserError with the file and the field."""
    if not path.exists():
        return Results(claims=())
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path.name}: {first_error(error)}") from None


def load_results(folder: Path, topics: Sequence[str]) -> dict[str, Result]:
    """Claim id → its stored result. Claims that have not been measured are absent."""
    return {result.id: result for topic in topics for result in read_results(folder / f"{topic}.json").claims}
