"""Rewards as a weighted list, and rewards of a package's own."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from thinkling import plugins
from thinkling.generate.rollouts import Rollout
from thinkling.stages.rl import config as rl_config
from thinkling.stages.rl.config import RewardedProblemsConfig
from thinkling.stages.rl.rewards import reward_of
from thinkling.tasks.problem import Problem

PROBLEM = Problem(id="p", family="f", question="q", answer="1", reasoning="", verifier="exact")
ROLLOUT = Rollout("p", "f", 0, "q", "1", "1", "right", "exact", "", False, "stop", [1], [2], [0.0], [0], [False])


def brevity(problem: Problem, rollout: Rollout) -> float:
    return 1 / rollout.n_tokens


def rewards(given: dict[str, float], *rollouts: Rollout) -> list[float | None]:
    made = reward_of(RewardedProblemsConfig.model_validate({"source": "s", "rewards": given}), None, {})
    return made([(PROBLEM, rollouts)]).rewards[0]


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("brevity", f"{__name__}:brevity", "thinkling.rewards")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "thinkling.rewards" else [])
    fresh = plugins.Registry("reward", "thinkling.rewards", rl_config.REWARDS.built_in)
    monkeypatch.setattr(rl_config, "REWARDS", fresh)
    monkeypatch.setattr("thinkling.stages.rl.rewards.REWARDS", fresh)


def test_verdicts_alone_are_one_and_zero_and_leave_the_group() -> None:
    outcomes = ("right", "wrong", "timeout", "unverifiable", "error")
    found = rewards({"verdict": 1}, *(replace(ROLLOUT, outcome=outcome) for outcome in outcomes))
    assert found == [1.0, 0.0, None, None, None]


def test_rewards_are_summed_by_weight(plug_in: None) -> None:
    long = replace(ROLLOUT, tokens=[2] * 4, logprobs=[0.0] * 4, versions=[0] * 4, forced=[False] * 4)
    wrong, undecided = replace(long, outcome="wrong"), replace(long, outcome="timeout")
    assert rewards({"verdict": 1, "brevity": 0.2}, ROLLOUT, long, wrong, undecided) == [1.2, 1.05, 0.05, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"brevty": 1.0}, "unknown reward 'brevty'; use one of verdict, well_formed"),
        ({"verdict": 0.0}, "weight 0 has no effect"),
        ({}, "at least 1 item"),
    ],
)
def test_mistakes_in_rewards_are_told_before_anything_runs(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardedProblemsConfig.model_validate({"source": "s", "rewards": given})
