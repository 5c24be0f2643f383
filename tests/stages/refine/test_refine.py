"""The loop with scripted roles: stop rules, what is kept, what a prompt may hold, and going on after a kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.generate.fake_server import Watching
from thinkling.data.conversations import read_conversations
from thinkling.errors import UserError
from thinkling.generate.backends import Messages, Reply
from thinkling.generate.engine import Sampling
from thinkling.progress import Progress, Silent
from thinkling.puzzles import refinement as roles
from thinkling.puzzles.problemset import generate
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.refine import stage
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.refine.jobs import Asked, Job, Round
from thinkling.stages.refine.style import Solution
from thinkling.tasks.problem import Problem

FAMILIES: dict[str, dict[str, int]] = {"sum": {}, "sort": {}}
SENTINEL = "SECRET9"
BACKEND = {"input": "refiner", "max_new_tokens": 96}


class Killed(BaseException):
    """In place of SIGKILL."""


class Oracle:
    """Plays every role in symbols, knowing all problems; drafts of `wrong(problem)` are wrong."""

    def __init__(
        self,
        wrong: Callable[[Problem], bool] = lambda problem: int(problem.id, 16) % 2 == 0,
        revise: Callable[[Problem], str] | None = None,
        overrides: Mapping[str, str] | None = None,
        kill_at: int | None = None,
    ) -> None:
        self.problems = {p.question: p for p in generate(FAMILIES, "train", 12, 7)}
        self.wrong, self.revise, self.overrides, self.kill_at = wrong, revise, overrides or {}, kill_at
        self.prompts: list[str] = []
        self.calls = 0

    def reply(self, asked: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, limit: int) -> list[Reply]:
        if self.calls == self.kill_at:
            raise Killed
        self.calls += 1
        assert len(seeds) == len(set(seeds)) == len(asked)
        return [self._answer(messages[0]["content"]) for messages in asked]

    def _answer(self, prompt: str) -> Reply:
        self.prompts.append(prompt)
        first, *rest = prompt.split("\n")
        word, _, question = first.partition(" ")
        if question not in self.problems:
            problem = self.problems[first]
            answer = ("9" if problem.answer[0] != "9" else "8") + problem.answer[1:]
            return Reply(answer if self.wrong(problem) else problem.answer, problem.reasoning)
        problem = self.problems[question]
        if word in self.overrides:
            return Reply(self.overrides[word])
        if word == "list":
            return Reply("".join(roles.items_of(problem)))
        if word == "check":
            return Reply(roles.critique_of(problem, *(roles.read_line(rest[0]) or ("", ""))))
        if word == "mend":
            return Reply(self.revise(problem) if self.revise else f"{problem.reasoning}.{problem.answer}")
        plan = "".join(roles.items_of(problem)[:-1])
        return Reply(f"{plan}:{problem.reasoning}.{problem.answer}")


def config(**fields: Any) -> RefineConfig:
    return RefineConfig.model_validate(
        {
            "kind": "refine", "inputs": {"refiner": "a"}, "style": "puzzles", "drafters": [BACKEND],
            "problems": {"source": "p", "n_problems": 24}, "checklist": BACKEND, "evaluators": [BACKEND],
            "reviser": BACKEND, "chain": BACKEND, "chunk": 12,
        }
        | fields
    )  # fmt: skip


def refine(
    directory: Path, oracle: Any, monkeypatch: pytest.MonkeyPatch, progress: Progress | None = None, **fields: Any
) -> StageContext:
    directory.mkdir(exist_ok=True)
    made = config(**fields)
    monkeypatch.setattr(stage, "backends", lambda config, ctx: dict.fromkeys(config.backends, oracle))
    source = PuzzlesSource(type="puzzles", families=FAMILIES)
    ctx = StageContext("refine", directory, {}, 7, sources=bound({"p": source}), progress=progress or Silent())
    stage.run(made, ctx)
    return ctx


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_wrong_drafts_are_mended_and_all_is_counted(tmp_path, monkeypatch) -> None:
    ctx = refine(tmp_path, oracle := Oracle(), monkeypatch)
    wrong = sum(map(oracle.wrong, oracle.problems.values()))
    assert 0 < wrong < 24
    assert (ctx.counts["jobs"], ctx.counts["kept"], ctx.counts["rejected"]) == (24, 24, {})
    assert ctx.counts["rounds"] == {"0": 24 - wrong, "1": wrong}
    assert ctx.counts["quality"] == {
        "drafts": {"n": 24, "right": 24 - wrong},
        "noisy_drafts": {"n": 0, "right": 0},
        "final": {"n": 24, "right": 24},
        "kept": {"n": 24, "right": 24},
        "critic": {"right_met": 24, "wrong_unmet": wrong},
        "revisions": {"of_wrong": wrong, "right": wrong},
    }
    by_question = {c.messages[0]["content"]: c for c in read_conversations(tmp_path / "conversations.parquet")}
    for question, problem in oracle.problems.items():
        answer = by_question[question].messages[1]
        assert (answer["content"], answer["reasoning_content"]) == (problem.answer, problem.reasoning)
        assert by_question[question].problem_id == problem.id


def test_noise_is_of_a_stated_fraction_and_refined_away(tmp_path, monkeypatch) -> None:
    oracle = Oracle(wrong=lambda problem: False)
    ctx = refine(tmp_path, oracle, monkeypatch, style_options={"noise_fraction": 0.5, "noise_strength": 1.0})
    noisy = ctx.counts["quality"]["noisy_drafts"]
    assert 4 <= noisy["n"] <= 20
    assert noisy["right"] == 0
    assert ctx.counts["kept"] == 24
    rows = pq.read_table(tmp_path / "jobs.parquet").to_pylist()
    assert sum(row["noisy"] for row in rows) == noisy["n"]
    assert all(len(row["rounds"]) == 1 + row["noisy"] for row in rows)


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        ("list", "no list", "checklist_unreadable"),
        ("check", "looks fine", "critique_unreadable"),
        ("chain", "because", "chain_unreadable"),
    ],
)
def test_replies_out_of_form_are_rejected_by_reason(tmp_path, monkeypatch, word, text, reason) -> None:
    with pytest.raises(UserError, match=f"{reason} 24"):
        refine(tmp_path, Oracle(overrides={word: text}), monkeypatch)


def test_a_revision_out_of_form_and_a_chain_that_leads_elsewhere(tmp_path, monkeypatch) -> None:
    ctx = refine(tmp_path / "a", oracle := Oracle(overrides={"mend": "?"}), monkeypatch)
    wrong = sum(map(oracle.wrong, oracle.problems.values()))
    assert ctx.counts["rejected"] == {"revision_unreadable": wrong}
    with pytest.raises(UserError, match="chain_disagrees 24"):
        refine(tmp_path / "b", Oracle(overrides={"chain": "B+1:B+1=2.77777"}), monkeypatch)


def test_no_gain_and_budget_end_a_job(tmp_path, monkeypatch) -> None:
    stuck = Oracle(revise=lambda problem: f".{problem.answer}")
    ctx = refine(tmp_path / "a", stuck, monkeypatch, rounds=9, patience=3)
    wrong = sum(map(stuck.wrong, stuck.problems.values()))
    assert ctx.counts["rejected"] == {"no_gain": wrong}
    assert ctx.counts["rounds"]["3"] == wrong
    short = refine(tmp_path / "b", Oracle(), monkeypatch, rounds=0)
    assert short.counts["rejected"] == {"budget": wrong}
    every = refine(tmp_path / "c", Oracle(), monkeypatch, rounds=0, keep="any")
    assert every.counts["rejected"] == {"chain_disagrees": wrong}


def job(*met: int) -> Job:
    made = Job(Asked("k", "p", "sum", "sum A1B+1"), 0, items=list("abcd"))
    made.rounds = [Round(Solution("", str(n)), [""], [[i < n for i in range(4)]]) for n in met]
    return made


@pytest.mark.parametrize(
    ("met", "end"),
    [((4,), "met"), ((1,), None), ((1, 2), None), ((2, 1), None), ((2, 1, 2), "no_gain"), ((1, 2, 3, 3), "budget"),
     ((1, 2, 2, 2), "no_gain"), ((1, 1, 4), "met")],
)  # fmt: skip
def test_stop_rule(met: tuple[int, ...], end: str | None) -> None:
    made = job(*met)
    made.judge(rounds=3, patience=2)
    assert made.end == end
    assert made.best.solution.answer == str(max(met))


def test_all_evaluators_must_agree_and_the_harshest_is_heeded() -> None:
    one = Round(Solution("", "1"), ["mild", "bad", "harsh"], [[True, True], None, [True, False]])
    assert one.met == [True, False]
    assert one.harshest == "harsh"
    assert Round(Solution("", "1"), ["bad"], [None]).met is None


def test_no_role_is_shown_a_reference(tmp_path, monkeypatch) -> None:
    """Every problem's answer, reasoning and tool call is a sentinel; none of it stands in any prompt or record."""

    given = PuzzlesSource.problems

    def poisoned(*arguments: Any) -> list[Problem]:
        return [
            dataclasses.replace(
                p, answer=SENTINEL, reasoning=SENTINEL, call={"expression": SENTINEL}, hidden_tests=(SENTINEL,)
            )
            for p in given(*arguments)
        ]

    monkeypatch.setattr(PuzzlesSource, "problems", poisoned)
    oracle = Oracle()
    ctx = refine(tmp_path, oracle, monkeypatch, style_options={"noise_fraction": 0.3})
    assert ctx.counts["quality"]["kept"] == {"n": 24, "right": 0}
    assert len(oracle.prompts) > 100
    assert not any(SENTINEL in prompt for prompt in oracle.prompts)
    assert not any(SENTINEL.encode() in content for content in contents(tmp_path / "events").values())
    assert not {f.name for f in dataclasses.fields(Asked)} & {"answer", "reasoning", "tests", "hidden_tests", "call"}


def test_keep_verified_reads_the_verdict_after_all_is_done(tmp_path, monkeypatch) -> None:
    given = PuzzlesSource.problems

    def poisoned(*arguments: Any) -> list[Problem]:
        return [dataclasses.replace(p, answer=SENTINEL) if p.family == "sum" else p for p in given(*arguments)]

    monkeypatch.setattr(PuzzlesSource, "problems", poisoned)
    ctx = refine(tmp_path, Oracle(), monkeypatch, keep="verified")
    assert (ctx.counts["kept"], ctx.counts["rejected"]) == (12, {"verifier_wrong": 12})


def test_killed_at_every_call_and_resumed_gives_the_same_bytes(tmp_path, monkeypatch) -> None:
    whole = Oracle()
    refine(tmp_path / "whole", whole, monkeypatch, style_options={"noise_fraction": 0.3})
    expected = contents(tmp_path / "whole")
    names = [name.partition("-")[2].partition("-")[2] for name in expected if name.startswith("events/")]
    assert {name.partition("-")[0] for name in names} == {"draft", "checklist", "critique", "revision", "chain"}
    for call in range(whole.calls):
        directory = tmp_path / f"killed-{call}"
        with pytest.raises(Killed):
            refine(directory, Oracle(kill_at=call), monkeypatch, style_options={"noise_fraction": 0.3})
        before = contents(directory)
        second = Oracle()
        refine(directory, second, monkeypatch, style_options={"noise_fraction": 0.3})
        assert second.calls == whole.calls - call
        after = contents(directory)
        assert after == expected
        assert all(after[name] == content for name, content in before.items())


def test_records_of_other_questions_are_refused(tmp_path, monkeypatch) -> None:
    refine(tmp_path, Oracle(), monkeypatch)
    with pytest.raises(UserError, match="the stored questions are not those of this run"):
        refine(tmp_path, Oracle(), monkeypatch, checklist_version=2)


def test_drafters_take_turns(tmp_path, monkeypatch) -> None:
    refine(tmp_path, Oracle(), monkeypatch, drafters=[BACKEND, BACKEND])
    rows = pq.read_table(tmp_path / "jobs.parquet").to_pylist()
    assert [row["drafter"] for row in rows] == [0, 1] * 12


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reviser": {"input": "teacher", "max_new_tokens": 8}}, "reviser.input"),
        ({"chain": {"url": "http://h/v1", "max_new_tokens": 8}}, "model"),
        ({"chain": {"max_new_tokens": 8}}, "set either input"),
        ({"chain": {"input": "refiner", "url": "http://h", "model": "m", "max_new_tokens": 8}}, "set either input"),
    ],
)
def test_mistakes_in_the_configuration(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_families_without_roles_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(FAMILIES, "calc", {})
    with pytest.raises(UserError, match="'calc': the style puzzles has no roles"):
        refine(tmp_path, Oracle(), monkeypatch)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply("", "and so on", "length"), r"refine: drafters\.0: all 64 samples were cut off by max_new_tokens 96"),
        (Reply("", "and so on"), r"refine: drafters\.0: none of 64 samples is well-formed"),
    ],
)
def test_drafts_that_are_all_worthless_stop_the_stage(tmp_path, monkeypatch, reply: Reply, message: str) -> None:
    """F5: every role would be asked about nothing."""

    class Cut:
        calls = 0

        def reply(self, asked: Sequence[Messages], *_: object) -> list[Reply]:
            self.calls += 1
            return [reply] * len(asked)

    cut = Cut()
    with pytest.raises(UserError, match=message):
        refine(tmp_path, cut, monkeypatch, problems={"source": "p", "n_problems": 80}, chunk=64)
    assert cut.calls == 1


def test_a_warning_says_that_nothing_kept_is_right_by_the_audit(tmp_path, monkeypatch) -> None:
    """37 of 40 jobs were kept, none of them right, and only the report said so."""
    given = PuzzlesSource.problems
    monkeypatch.setattr(
        PuzzlesSource, "problems", lambda *a: [dataclasses.replace(p, answer=SENTINEL) for p in given(*a)]
    )
    watching = Watching()
    monkeypatch.setattr(Silent, "warn", lambda self, text: watching.warn(text))
    monkeypatch.setattr(Silent, "note", lambda self, text: watching.note(text))
    refine(tmp_path, Oracle(), monkeypatch)
    assert [line for line in watching.warnings if "kept 24 jobs, but the verifiers accept none" in line]
    assert [line for line in watching.notes if "kept 24 of 24 jobs" in line]


def test_progress_moves_with_every_phase_and_ends_at_the_number_of_jobs(tmp_path, monkeypatch) -> None:
    """512 jobs went through all roles before the bar moved."""
    shown = Watching()
    refine(tmp_path, Oracle(), monkeypatch, progress=shown, rounds=2)
    (bar,) = shown.bars.values()
    assert (bar.unit, bar.total) == ("jobs", 24)
    assert bar.done == pytest.approx(24)
    assert bar.moves == 2 * (3 + 2 + 3)  # two chunks
