"""Parts of curate that are reused: a changed budget asks no annotator, reads no source, and gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.generate.fake_server import Failing, FakeServer, Watching, serving
from tests.stages.curate.test_stage import jsonl
from tests.stages.curate.test_write_graded import sources
from thinkling.data.artifact import content_files
from thinkling.errors import UserError
from thinkling.pipeline.recipe import read_source
from thinkling.quality.tags import NAMES
from thinkling.sources.base import bound
from thinkling.sources.files import FilesSource
from thinkling.stages.base import StageContext
from thinkling.stages.curate import stage
from thinkling.stages.curate.config import CurateConfig

GRADING: dict[str, Any] = {
    "seeds": {"good": 15}, "hq_tokens": 4000, "mq_tokens": 4000, "annotated": 100, "dimensions": 8, "neighbours": 20,
}  # fmt: skip


def grades(number: int, body: Any) -> str | Failing:
    text = body["messages"][0]["content"]
    return json.dumps({name: (len(text) + place) % 10 for place, name in enumerate(NAMES)})


def curate(run: Path, name: str, server: FakeServer, **changes: Any) -> tuple[StageContext, Watching]:
    """One artifact of a run."""
    annotator = {"url": server.url, "model": "m"}
    (run.parent / "raw").mkdir(parents=True, exist_ok=True)
    raw = {key: value for key, value in sources(run.parent / "raw").items() if key in ("good", "bad")}
    raw["broken"] = jsonl(run.parent / "broken.jsonl", {"id": "a", "text": "one sentence."}, "{no JSON")
    fields = {"kind": "curate", "sources": list(raw), "grading": {**GRADING, "annotator": annotator} | changes}
    config = CurateConfig.model_validate(fields)
    (run / name).mkdir(parents=True)
    made = bound({key: read_source(key, value) for key, value in raw.items()})
    resolved = {"stage": config.model_dump(mode="json"), "seed": 7}
    watching = Watching()
    ctx = StageContext(
        "curate", run / name, {}, 7, sources=made, progress=watching, kept=run, resolved=resolved
    )  # fmt: skip
    stage.run(config, ctx)
    return ctx, watching


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in content_files(directory)}


def test_a_changed_budget_asks_no_annotator_again_and_gives_the_bytes_of_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """398 requests, then 398 once more for `mq_tokens: 400K`."""
    with serving(grades) as server:
        curate(tmp_path / "run", "first", server)
        asked = len(server.bodies)
        assert asked > 100
        with monkeypatch.context() as patched:
            patched.setattr(FilesSource, "documents", lambda *_: pytest.fail("a source was read again"))
            changed, watching = curate(tmp_path / "run", "changed", server, hq_tokens=2000)
        assert len(server.bodies) == asked
        assert [line for line in watching.notes if "reusing" in line]
        alone, _ = curate(tmp_path / "alone", "changed", server, hq_tokens=2000)
    assert contents(tmp_path / "run" / "changed") == contents(tmp_path / "alone" / "changed")
    assert changed.counts == alone.counts
    assert changed.counts["in"] == changed.counts["kept"] + sum(changed.counts["rejected"].values())
    assert changed.counts["rejected"]["not JSON"] == 1
    assert contents(tmp_path / "run" / "changed") != contents(tmp_path / "run" / "first")


def test_another_way_to_grade_takes_the_pool_and_the_answers_that_are_there(tmp_path: Path) -> None:
    with serving(grades) as server:
        curate(tmp_path / "run", "first", server)
        asked = len(server.bodies)
        _, watching = curate(tmp_path / "run", "changed", server, ridge=0.5)
        assert len(server.bodies) == asked, "answers are kept by request"
    assert any("pool-" in line and "reusing" in line for line in watching.notes)
    assert any(f"{asked:,} of them were answered earlier" in line for line in watching.notes)


def test_a_part_that_was_changed_is_refused(tmp_path: Path) -> None:
    with serving(grades) as server:
        curate(tmp_path / "run", "first", server)
        (pool,) = (tmp_path / "run" / "parts").glob("curate-pool-*/pool.parquet")
        pool.write_bytes(pool.read_bytes()[:-1] + b"X")
        with pytest.raises(UserError, match=r"pool.*delete"):
            curate(tmp_path / "run", "changed", server, hq_tokens=2000)


def test_unreadable_answers_of_the_annotator_are_told(tmp_path: Path) -> None:
    """187 of 400 answers were unreadable, and nobody was told."""

    def half(number: int, body: Any) -> str | Failing:
        return grades(number, body) if len(body["messages"][0]["content"]) % 2 else "What a fine text!"

    with serving(half) as server:
        ctx, watching = curate(tmp_path / "run", "first", server)
        told = ctx.counts["replies"]["annotator"]
        assert told["asked"] == told["read"] + told["unreadable"]["no JSON object"]
        assert told["unreadable"]["no JSON object"] > 20
        (line,) = watching.warnings
        assert line.startswith("stages.curate.grading.annotator: ")
        assert "replies could not be parsed (no JSON object" in line
        samples = [json.loads(one) for one in (ctx.directory / "unreadable.jsonl").read_text().splitlines()]
        assert {sample["text"] for sample in samples} == {"What a fine text!"}
        assert ctx.counts["served"]["grading.annotator"]["requests"] == len(server.bodies)


def test_every_long_step_shows_its_progress_in_documents_of_a_known_number(tmp_path: Path) -> None:
    """A file was one unit of progress: "web: 1/1 files, 0 s left", then a minute without a line."""
    with serving(grades) as server:
        _, watching = curate(tmp_path / "run", "first", server, neighbours=20)
    bars = watching.bars
    for label in ("curate: good", "curate: bad", "survey", "labeller, features", "annotate", "grade", "curate: split"):
        assert bars[label].unit == "documents", label
        assert bars[label].total == pytest.approx(bars[label].done, rel=0.1), label
        assert bars[label].done > 50, label
    asked = bars["stages.curate.grading.annotator"]
    assert asked.unit == "replies"
    assert asked.total == asked.done == asked.moves > 100
    assert bars["retrieve"].total == bars["retrieve"].done == 15
    assert any("building the search index of 122 documents" in note for note in watching.notes)
