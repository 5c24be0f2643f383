"""A run with an artifact of every kind, written with the project's own writers in a moment; no stage runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from thinkling.data.artifact import finish, write_json
from thinkling.data.conversations import Conversation, tool_call, write_conversations
from thinkling.data.documents import RejectedWriter, write_documents
from thinkling.data.ledger import Ledger
from thinkling.data.shards import ShardWriter
from thinkling.data.tables import write_table
from thinkling.generate.rollouts import Rollout, write_rollouts
from thinkling.quality.tags import NAMES
from thinkling.quality.value import COLUMNS, QualityModel
from thinkling.stages.curate.write_graded import ANNOTATED_SCHEMA, GRADED_SCHEMA
from thinkling.stages.dpd.pairs import Pair, Side, write_pairs
from thinkling.stages.evaluate.grades import GradedSample, write_grades
from thinkling.stages.refine import audit
from thinkling.stages.rl import band
from thinkling.stages.tokenize.selection import survey, validation_documents

N_DOCUMENTS = 12
SECRET = "\x1b[31mred\u202e"


def rollout(problem_id: str, sample: int = 0, outcome: str = "wrong", **fields: Any) -> Rollout:
    """One that says `<think>why</think> 7`, unless told otherwise."""
    given = {
        "family": "sums", "question": "What is 3 + 4?", "reference": "7", "text": "<think>why</think> 7",
        "tier": "maths", "detail": "7", "thinks": True, "finish_reason": "stop", "prompt": [1, 2], "tokens": [3, 4, 5],
    } | fields  # fmt: skip
    n = len(given["tokens"])
    level = {"logprobs": [0.0] * n, "versions": [0] * n, "forced": [False] * n}
    return Rollout(problem_id=problem_id, sample=sample, outcome=outcome, **{**level, **given})


def conversation(identity: str, answer: str = "7", source: str = "own", **fields: Any) -> Conversation:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 3 + 4?"},
        {"role": "assistant", "content": "", "tool_calls": [tool_call("add", {"a": 3})], "loss": False},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": answer, "reasoning_content": "three and four"},
    ]
    return Conversation(identity, messages, source, **fields)


class Writer:
    """Writes artifacts of one run, one after another."""

    def __init__(self, run: Path) -> None:
        self.run = run
        run.mkdir(parents=True)
        self.number = 0

    @contextmanager
    def stage(
        self, name: str, settings: Mapping[str, Any], inputs: Mapping[str, str] | None = None, **counts: Any
    ) -> Iterator[Path]:
        """The folder of a stage, which is finished when the block ends. `inputs`: role → stage."""
        folder = self.partial(name)
        yield folder
        found = {role: {"artifact": next(self.run.glob(f"{of}-*")).name} for role, of in (inputs or {}).items()}
        manifest = {
            "kind": settings["kind"], "stage": name, "resolved": {"stage": dict(settings)}, "inputs": found,
            "counts": counts,
        }  # fmt: skip
        finish(folder, folder.with_suffix(""), manifest, {"wall_seconds": 1.0, "peak_rss_mb": 1.0})

    def partial(self, name: str) -> Path:
        """The folder of a stage that does not finish."""
        self.number += 1
        folder = self.run / f"{name}-{self.number:08x}.partial"
        folder.mkdir()
        return folder


def documents() -> list[dict[str, Any]]:
    """Graded ones of two sources; `pages/3` is the worst."""
    rows = []
    for number in range(N_DOCUMENTS):
        source = "pages" if number < 10 else "books"
        grades = dict.fromkeys(NAMES, 2 if number == 3 else 8)
        rows.append(
            {"id": f"{source}/{number}", "text": f"Page {number} {SECRET} " + "word " * 200, "source": source,
             "quality": "mq" if number == 3 else "hq", "markup": False, **grades, "similarity": 0.25, "value": 0.0,
             "value_terms": "value 0.00: depth 2 (-1.00)"}
        )  # fmt: skip
    columns = np.array([[*(row[n] / 9 for n in NAMES), row["similarity"]] for row in rows])
    values = model().values(columns)
    return [row | {"value": float(value)} for row, value in zip(rows, values, strict=True)]


def model() -> QualityModel:
    return QualityModel(np.arange(len(COLUMNS)) / 10.0, np.full(len(COLUMNS), 0.5), 0.125)


def curate(writer: Writer) -> None:
    sources = {"pages": {"in": 13, "kept": 10, "rejected": {"duplicate": 1, "near duplicate": 2}}}
    counts: dict[str, Any] = {"in": 15, "kept": 12, "rejected": {"duplicate": 1, "near duplicate": 2}}
    with writer.stage("curate", {"kind": "curate"}, None, **counts, sources=sources) as folder:
        write_documents(folder / "documents.parquet", documents(), schema=GRADED_SCHEMA, rows_per_group=5)
        with RejectedWriter(folder / "rejected.parquet") as rejected:
            for identity, reason, detail in (
                ("pages/copy", "duplicate", "of pages/3"),
                ("pages/near", "near duplicate", "of pages/3"),
                ("books/near", "near duplicate", "of pages/1"),
            ):
                rejected.write({"id": identity, "source": identity[:5], "text": "Page 3"}, reason, detail)
        write_json(folder / "grading.json", {"quality": model().as_dict()})
        grades = dict.fromkeys(NAMES, 8)
        rows = [{"id": "pages/1", "damage": damage, "damaged_fraction": 0.3, **grades} for damage in ("", "typing")]
        write_table(folder / "annotated.parquet", rows, ANNOTATED_SCHEMA)


def tokenize(writer: Writer) -> set[str]:
    """Returns the ids of the validation documents. Document i has i + 2 tokens, one of them the end of text."""
    rows = documents()
    chosen = validation_documents(survey(rows), 0.2)
    with writer.stage("tokenize", {"kind": "tokenize", "validation_fraction": 0.2}, {"documents": "curate"}) as folder:
        for group in sorted({f"{row['quality']}-{row['source']}" for row in rows}):
            for part in ("shards", "validation"):
                mine = [
                    i for i, row in enumerate(rows)
                    if f"{row['quality']}-{row['source']}" == group and (i in chosen) == (part == "validation")
                ]  # fmt: skip
                if not mine:
                    continue
                with ShardWriter(folder / part, group, 100, 0) as shard:
                    for i in mine:
                        shard.add(np.arange(1, i + 2))
    return {rows[i]["id"] for i in chosen}


def pretrain(writer: Writer) -> None:
    used = {"hq-pages": {"rows": 4, "tokens": 900, "padding": 0, "epochs": 2.5}}
    with writer.stage("pretrain", {"kind": "pretrain"}, {"tokens": "tokenize"}, sources=used):
        pass


def refine(writer: Writer) -> None:
    round_ = {"reasoning": "3, 4", "answer": "7", "critiques": ["good"], "met": [True, False], "outcome": "right"}
    job = {
        "key": "job1", "problem_id": "sum-7", "family": "sums", "question": "What is 3 + 4?", "drafter": 0,
        "noisy": False, "checklist_version": 1, "checklist": ["a sum"], "rounds": [round_], "end": "met",
        "summary": "short", "chain": "so 7", "rejected": None,
    }  # fmt: skip
    lost = job | {"key": "job2", "problem_id": "sum-8", "end": "no_gain", "rejected": "no_gain", "chain": None}
    with writer.stage("refine", {"kind": "refine"}, jobs=2, kept=1, rejected={"no_gain": 1}) as folder:
        write_table(folder / "jobs.parquet", [job, lost], audit.SCHEMA)
        write_conversations(folder / "conversations.parquet", [conversation("job1", problem_id="sum-7")])
        reply = {"field": "checklist", "reason": "out of form", "about": "job2", "text": "hm", "reasoning": ""}
        (folder / "unreadable.jsonl").write_text(json.dumps(reply) + "\n")


def sft(writer: Writer) -> None:
    counts = {"conversations": 3, "kept": 2, "overlong_dropped": 1, "without_loss": 0, "unrenderable": 0}
    with writer.stage("sft", {"kind": "sft"}, {"conversations": "refine"}, **counts) as folder:
        own = [conversation("chat-1"), conversation("chat-2", "long " * 300), conversation("job1", problem_id="sum-7")]
        write_conversations(folder / "conversations.parquet", own)
        write_conversations(folder / "validation.parquet", [conversation("chat-3")])
        ledger = Ledger(folder / "rejected.jsonl")
        ledger.reject("own", "data/chats.jsonl:4", "no messages", {"id": "chat-4", "x": 1}, "a key is missing")
        ledger.note("own", "conversations.parquet", "longer than sequence_length", {"id": "chat-2", "tokens": 1234})
        span = {"id": "chat-1", "source": "own", "tokens": 40, "loss_tokens": 12, "truncated": False, "segments": []}
        (folder / "spans.jsonl").write_text(json.dumps(span) + "\n")


def dpd(writer: Writer) -> None:
    settings = {"kind": "dpd", "sequence_length": 64, "pairs": {"min_margin": 0.0}}
    counts = {"problems": 3, "kept": 1, "student_not_wrong": 1, "teacher_not_right": 1, "pairs": 1}
    with writer.stage("dpd", settings, None, **counts) as folder:
        for role in ("student", "teacher"):
            (folder / "samples" / role).mkdir(parents=True)
        student = [rollout("sum-7"), rollout("sum-8"), rollout("sum-9", outcome="right")]
        write_rollouts(folder / "samples/student/00000.parquet", student)
        teacher = [rollout("sum-7", outcome="right"), rollout("sum-8")]
        write_rollouts(folder / "samples/teacher/00000.parquet", teacher)
        sides = [Side(0, text, [3], [False]) for text in ("It is 7.", "It is 8.")]
        write_pairs(folder / "pairs.parquet", [Pair("sum-7", "sums", "What is 3 + 4?", "7", [1], 1.0, *sides)])


def rl(writer: Writer) -> None:
    settings = {
        "kind": "rl", "band": {"low": 0.0, "high": 1.0}, "rollouts_every": 10,
        "problems": [{"source": "own", "rewards": {"verdict": 2.0}}, {"source": "liked", "rewards": {"preference": 1}}],
    }  # fmt: skip
    kept = {"problems": 3, "kept": 1, "too_hard": 1, "too_easy": 0, "undecided": 1}
    with writer.stage("rl", settings, own=kept) as folder:
        rows = [
            band.PassRate("own", "sum-7", "sums", "What is 3 + 4?", 2, 0, 4, True),
            band.PassRate("own", "sum-8", "sums", "What is 3 + 5?", 0, 0, 4, False),
            band.PassRate("liked", "sum-9", "sums", "What is 3 + 6?", 0, 4, 4, False),
        ]
        band.write(folder / "band.parquet", rows, folder / "band")
        for step, outcomes in ((0, ("right", "wrong")), (10, ("right", "right"))):
            (folder / f"rollouts/{step:05d}").mkdir(parents=True)
            found = [rollout("sum-7", i, outcome) for i, outcome in enumerate(outcomes)]
            write_rollouts(folder / f"rollouts/{step:05d}/00000.parquet", found)
        (folder / "evaluations/00000010/held").mkdir(parents=True)
        write_rollouts(folder / "evaluations/00000010/held/00000.parquet", [rollout("sum-7", outcome="timeout")])


def evaluate(writer: Writer) -> None:
    score = {
        "task_set": "sums", "renderer": "chat", "measure": "grade", "k": 2, "n": 2, "mean": 0.5, "low": 0.25,
        "high": 0.75, "thinking_fraction": 1.0, "accuracy_thinking": 0.5, "per_family": {}, "outcomes": {},
        "truncated": 1,
    }  # fmt: skip
    with writer.stage("evaluate", {"kind": "evaluate", "inputs": {"model": "rl"}}, {"model": "rl"}) as folder:
        (folder / "rollouts/sums").mkdir(parents=True)
        (folder / "grades").mkdir()
        cut_off = {"tier": "length", "detail": "cut off by max_new_tokens", "finish_reason": "length"}
        found = [
            rollout("held-1", 0, "right"), rollout("held-1", 1, **cut_off),
            rollout("held-2", 0, tier="extract", detail="no readable answer", text=SECRET), rollout("held-2", 1),
        ]  # fmt: skip
        write_rollouts(folder / "rollouts/sums/00000.parquet", found)
        rows = [GradedSample(r.problem_id, r.sample, 0.75) for r in found]
        write_grades(folder / "grades/sums.parquet", rows)
        write_json(folder / "scores.json", [score])


def write_run(run: Path) -> Writer:
    """Every kind of stage once."""
    writer = Writer(run)
    curate(writer)
    tokenize(writer)
    for write in (pretrain, refine, sft, dpd, rl, evaluate):
        write(writer)
    return writer
