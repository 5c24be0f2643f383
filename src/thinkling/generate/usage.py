"""Usage of served models: requests, tokens and cost, and the budget at which a stage stops."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from thinkling.errors import UserError
from thinkling.generate.config import BudgetConfig, PricesConfig


@dataclass(frozen=True)
class Usage:
    """Tokens as counted by a server."""

    prompt: int = 0
    completion: int = 0
    """Generated tokens, including reasoning."""
    reasoning: int = 0
    """Reasoning tokens, which are part of `completion`."""
    cached: int = 0
    """Prompt tokens that the server had cached, which are part of `prompt`."""

    @classmethod
    def of(cls, answer: Any) -> Usage | None:
        """Reads the `usage` of an answer. Returns None if the server did not report it."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return None
        return cls(
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
            _count(usage.get("prompt_tokens_details"), "cached_tokens"),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """Number of prompt and completion tokens together."""
        return self.prompt + self.completion

    def cost(self, prices: PricesConfig) -> float:
        """Cost in the currency of the prices."""
        cached = prices.prompt if prices.cached is None else prices.cached
        fresh = max(self.prompt - self.cached, 0)
        return (fresh * prices.prompt + self.cached * cached + self.completion * prices.completion) / 1e6


def _count(holder: Any, name: str) -> int:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if type(value) is int and value >= 0 else 0


class Spending:
    """Usage of all answers that a stage needs. Answers from earlier runs are included, so that a resumed stage reports
    the same counts as an uninterrupted stage."""

    def __init__(self, prices: PricesConfig | None = None, budget: BudgetConfig | None = None) -> None:
        self.prices, self.budget = prices, budget
        self.requests = self.uncounted = self.asked_now = 0
        self.usage = Usage()

    def add(self, usage: Usage | None, now: bool) -> None:
        """Adds one answer. `now`: whether this process requested the answer, rather than reading it from the store."""
        self.requests += 1
        self.asked_now += now
        if usage is None:
            self.uncounted += 1
        else:
            self.usage += usage

    @property
    def cost(self) -> float | None:
        """Cost of all answers; None without prices."""
        return None if self.prices is None else self.usage.cost(self.prices)

    def check(self, where: str, in_flight: int = 0) -> None:
        """Raises UserError if one more request would exceed the budget."""
        budget = self.budget
        if budget is None:
            return
        spent = {"requests": self.requests + in_flight, "tokens": self.usage.total, "cost": self.cost}
        for name, value in spent.items():
            limit = getattr(budget, name)
            if limit is None or value is None:
                continue
            if name != "requests" and self.requests and self.uncounted == self.requests:
                raise UserError(
                    f"{where}.budget.{name}: cannot be enforced, because the server's answers do not report token "
                    "counts (`usage`); use budget.requests instead"
                )
            if value >= limit:
                raise UserError(
                    f"{where}.budget.{name}: the limit of {limit:,} is reached ({self.line()}); raise the limit and "
                    "repeat the command to resume; stored answers are reused"
                )

    def line(self) -> str:
        """A summary in one line: `40 requests, 12,345 prompt + 6,789 completion tokens, cost 1.20`."""
        usage = self.usage
        parts = [f"{self.requests:,} request{'' if self.requests == 1 else 's'}"]
        if self.uncounted < self.requests:
            inside = [f"{n:,} {name}" for name, n in (("cached", usage.cached), ("reasoning", usage.reasoning)) if n]
            tokens = f"{usage.prompt:,} prompt + {usage.completion:,} completion tokens"
            parts.append(tokens + (f" ({', '.join(inside)})" if inside else ""))
        if self.uncounted:
            parts.append("usage unknown" if self.uncounted == self.requests else f"{self.uncounted:,} without usage")
        if self.cost is not None:
            parts.append(f"cost {self.cost:,.2f}" if self.cost >= 1 else f"cost {self.cost:.4f}")
        return ", ".join(parts)

    def counts(self) -> dict[str, Any]:
        """Returns the counts for the manifest."""
        found: dict[str, Any] = {"requests": self.requests}
        found |= {f"{name}_tokens": n for name, n in asdict(self.usage).items()}
        if self.uncounted:
            found["without_usage"] = self.uncounted
        if self.cost is not None:
            found["cost"] = round(self.cost, 6)
        return found
