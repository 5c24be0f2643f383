"""`thinkling show`: records of every kind, rejected ones by reason, counts, and what it refuses."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.pipeline.small_run import Writer, conversation, curate, dpd, rollout, write_run
from thinkling.cli import app
from thinkling.data.conversations import write_conversations
from thinkling.data.ledger import Ledger
from thinkling.errors import UserError
from thinkling.generate.rollouts import write_rollouts
from thinkling.pipeline import records, summary
from thinkling.pipeline.rejections import rejections
from thinkling.pipeline.show import Choice, show
from thinkling.pipeline.stage_folders import stage_folders
from thinkling.pipeline.unpaired import unpaired


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mine").run


def shown(run: Path, stage: str, n: int = 3, seed: int = 0, colours: bool = False, **chosen: Any) -> str:
    console = Console(file=StringIO(), width=80, color_system="truecolor" if colours else None, force_terminal=colours)
    show(run, stage, Choice(**chosen), n, seed, console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert colours or max(map(len, text.splitlines()), default=0) <= 80
    return text


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("stage", "lines"),
    [
        ("curate", ["3 of 12 documents", "· hq · 1,017 characters · value", "… 1,017 characters", "duplicate (2)"]),
        ("refine", ["1 of 1 conversations", "job1 · own · answers problem sum-7", "assistant 7"]),
        ("sft", ["3 of 3 conversations", "chat-3 · own · for validation", 'call (no loss) add {"a": 3}']),
        ("dpd", ["1 of 1 pairs", "sum-7 · sums · teacher leads by 1.00", "It is 7.", "It is 8.", "3 of 5 rollouts"]),
        (
            "rl",
            [
                "3 of 3 problems", "in the band · 2 of 4 samples right or preferred · sum-7",
                "outside the band: undecided", "3 of 5 rollouts",
            ],
        ),
        ("evaluate", ["0.500", "0.250–0.750", "3 of 4 rollouts", "task set sums"]),
    ],
)  # fmt: skip
def test_what_a_stage_wrote(run: Path, stage: str, lines: list[str]) -> None:
    text = flat(shown(run, stage))
    assert [line for line in lines if line not in text] == []


def test_a_rollout_has_verdict_and_reward_at_its_head(run: Path) -> None:
    text = shown(run, "rl", n=9)
    heads = [line.strip() for line in text.splitlines() if "maths: 7" in line]
    assert sum(line.startswith("right · reward 2 · maths: 7 · step") for line in heads) == 3
    assert sum(line.startswith("wrong · reward 0 · maths: 7 · step 0") for line in heads) == 1
    assert sum(line.startswith("timeout · maths: 7 · evaluated after step 10") for line in heads) == 1


def test_roles_have_colours_and_thinking_is_dim(run: Path) -> None:
    text = shown(run, "sft", n=1, colours=True)
    dim, cyan, green = "\x1b[2m", "\x1b[36m", "\x1b[32m"
    assert f"{dim}three and four" in text
    assert f"{cyan}What is 3 + 4?" in text
    assert f"{green}7" in text or f"{green}long" in text


@pytest.mark.parametrize(
    ("stage", "reason", "lines", "absent"),
    [
        ("curate", "Near Dup", ["2 of 2 rejected documents", "rejected: near duplicate · of pages/3"], "pages/copy"),
        ("refine", "no_gain", ["1 of 1 jobs", "rejected: no_gain · problem sum-8", "critique good"], "sum-7"),
        ("refine", "out of form", ["1 of 1 unreadable replies", "checklist · about job2"], "sum-7"),
        (
            "sft",
            "longer",
            ["rejected: longer than sequence_length", "chat-2 · own · 1,234 tokens", "long long"],
            "chat-4",
        ),
        ("sft", "no messages", ["data/chats.jsonl:4", "a key is missing", '"x": 1'], "chat-2"),
        ("dpd", "teacher_not", ["1 of 1 problems without a pair", "no pair: teacher_not_right · sum-8"], "sum-9"),
        ("rl", "too_hard", ["1 of 1 problems", "sum-8"], "sum-9"),
        ("rl", "timeout", ["1 of 1 rollouts", "evaluated after step 10: held"], "right"),
        ("evaluate", "cut off", ["1 of 1 rollouts", "held-1, sample 1"], "held-2"),
        ("evaluate", "no readable", ["1 of 1 rollouts", "held-2, sample 0"], "held-1"),
    ],
)
def test_rejected_ones_by_reason(run: Path, stage: str, reason: str, lines: list[str], absent: str) -> None:
    text = flat(shown(run, stage, reason=reason))
    assert [line for line in lines if line not in text] == []
    assert absent not in text.replace("samples right or preferred", "")


def test_rejected_alone_shows_all_reasons(run: Path) -> None:
    text = flat(shown(run, "curate", n=9, rejected=True))
    assert "3 of 3 rejected documents" in text
    assert "kept" not in text
    assert "documents curate" in text


def test_conversations_that_were_left_out_are_not_among_those_trained_on(run: Path) -> None:
    text = shown(run, "sft", n=99)
    assert "chat-1" in text
    assert "chat-2" not in text


def test_other_seeds_draw_others_and_the_same_seed_the_same(run: Path) -> None:
    texts = {seed: shown(run, "curate", n=2, seed=seed) for seed in range(8)}
    assert len(set(texts.values())) > 3
    assert texts[3] == shown(run, "curate", n=2, seed=3)


def test_every_record_is_drawn_alike(run: Path) -> None:
    (folder,) = (f for f in stage_folders(run) if f.stage == "curate")
    documents = [table for table in records.tables(folder) if table.name == "documents"]
    drawn = [
        item.row["id"]
        for seed in range(200)
        for item in records.draw(
            documents, lambda _: ("source",), lambda _, row: row["source"] == "pages", 2, seed
        ).items
    ]
    counts = {identity: drawn.count(identity) for identity in set(drawn)}
    assert set(counts) == {f"pages/{n}" for n in range(10)}
    assert min(counts.values()) > 15


def test_counts_by_reason(run: Path) -> None:
    text = flat(shown(run, "curate", n=0).replace("│", " "))
    assert "documents kept 12" in text
    assert "rejected documents near duplicate 2" in text
    assert "duplicate 1" in text
    assert "curate: pages: 13 in, 10 kept, 3 rejected: near duplicate 2, duplicate 1" in text
    dpd_counts = flat(shown(run, "dpd", n=0).replace("│", " "))
    assert "problems without a pair" in dpd_counts
    assert "student_not_wrong 1" in dpd_counts
    assert "rollouts right 2 wrong 3" in dpd_counts


def test_only_those_of_a_source_family_or_task_set(run: Path) -> None:
    assert "2 of 2 documents" in shown(run, "curate", source="books")
    assert "1 of 1 rejected documents" in shown(run, "curate", source="books", rejected=True)
    assert "4 of 4 rollouts" in shown(run, "evaluate", n=9, source="sums")
    assert "1 of 1 rollouts" in shown(run, "rl", source="held", rejected=True)
    assert "3 of 3 conversations" in shown(run, "sft", n=9, source="own")
    text = flat(shown(run, "curate", n=0, source="books").replace("│", " "))
    assert "documents kept 2" in text
    assert "near duplicate 1" in text


def test_what_is_not_there_is_named_with_what_is(run: Path) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("sfd", {}, r"mine: no stage 'sfd'; did you mean 'sft'\?; its stages are curate, tokenize, pretrain, refine"),
        ("pretrain", {}, r"^pretrain: the stage writes no records; stages with records: curate, refine, sft, dpd, rl"),
        (
            "curate",
            {"reason": "spam"},
            r"no reason for rejecting a record contains this text; the reasons are near duplicate \(2\), dup",
        ),
        ("curate", {"source": "page"}, r"no record has this source; the sources are pages \(12\), books \(3\)$"),
    ]
    for stage, chosen, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            shown(run, stage, **chosen)
        assert "\n" not in str(caught.value)


def test_where_nothing_was_rejected_it_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    with writer.stage("sft", {"kind": "sft"}) as folder:
        write_conversations(folder / "conversations.parquet", [conversation("chat-1")])
    with pytest.raises(UserError, match="--rejected: no record was rejected"):
        shown(writer.run, "sft", rejected=True)
    assert "records with a reason" not in shown(writer.run, "sft")


def test_a_stage_that_has_not_finished(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    curate(writer)
    rl = writer.partial("rl")
    (rl / "rollouts/00000").mkdir(parents=True)
    write_rollouts(rl / "rollouts/00000/00000.parquet", [rollout("sum-7")])
    text = shown(writer.run, "rl")
    assert f"{rl.name}: unfinished; only complete files are shown" in text
    assert "1 of 1 rollouts" in text


def test_the_reasons_of_problems_without_a_pair_are_those_that_the_stage_counted(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    dpd(writer)
    (folder,) = stage_folders(writer.run)
    found = {one.problem_id: one.reason for one in unpaired(folder)}
    assert found == {"sum-8": "teacher_not_right", "sum-9": "student_not_wrong"}
    counted = {name: n for name, n in folder.counts.items() if name.startswith(("student_", "teacher_"))}
    assert sorted(found.values()) == sorted(counted)


def test_the_command_prints_it(run: Path) -> None:
    arguments = ["show", "mine", "curate", "--reason", "near", "--n", "1", "--runs", str(run.parent)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "1 of 2 rejected documents" in result.stdout


def manifests(run: Path) -> list[dict[str, Any]]:
    return [
        {"name": folder.stage, "counts": dict(folder.counts), "wall_seconds": 1.0, "peak_rss_mb": 1.0}
        for folder in stage_folders(run)
    ]


def test_a_runs_summary_says_what_was_rejected_and_how_to_look(run: Path) -> None:
    """What dpd, rl and sft left out was counted in the manifest alone."""
    console = Console(file=StringIO(), width=80, color_system=None)
    whole = {"recipe": "mine", "seed": 0, "wall_seconds": 1.0, "skipped": {}, "stages": manifests(run), "scores": []}
    summary.show(whole, console, "out/my runs/mine")
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    for line in (
        "curate: pages: 13 in, 10 kept, 3 rejected: near duplicate 2, duplicate 1",
        "refine: 2 in, 1 kept, 1 rejected: no_gain 1",
        "sft: 3 in, 2 kept, 1 rejected: longer than sequence_length 1",
        "dpd: 3 in, 1 kept, 2 rejected: student_not_wrong 1, teacher_not_right 1",
        "rl: own: 3 in, 1 kept, 2 rejected: too_hard 1, undecided 1",
    ):
        assert line in lines
    command = "thinkling show 'out/my runs/mine' curate --reason 'near duplicate'"
    assert lines[-1] == f"to see the rejected records: `{command}`"


def test_each_reason_in_the_summary_can_be_shown(run: Path) -> None:
    for stage in manifests(run):
        for found in rejections(stage["name"], stage["counts"]):
            for reason, n in found.reasons.items():
                text = shown(run, stage["name"], n=99, reason=reason)
                assert text.count(f": {reason}") == n, text


def test_nothing_is_said_where_nothing_was_rejected() -> None:
    kept = {"in": 3, "kept": 3, "rejected": {}, "sources": {"own": {"in": 3, "kept": 3, "rejected": {}}}}
    assert summary.how_to_look({"stages": [{"name": "curate", "counts": kept}]}, "r") is None
    only_counted = {"sources": {"own": {"in": 9, "kept": 3, "rejected": {"not drawn": 6}}}}
    assert summary.how_to_look({"stages": [{"name": "sft", "counts": only_counted}]}, "r") is None


def test_what_a_stage_rejected_was_hidden_by_what_a_source_of_it_did(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rejected.jsonl")
    ledger.keep("coins", 4)
    ledger.reject("coins", "coins.jsonl:5", "no answer")
    counts = {"jobs": 4, "kept": 3, "rejected": {"no_gain": 1}, "sources": json.loads(json.dumps(ledger.counts()))}
    assert [str(found) for found in rejections("refine", counts)] == [
        "refine: coins: 5 in, 4 kept, 1 rejected: no answer 1",
        "refine: 4 in, 3 kept, 1 rejected: no_gain 1",
    ]
