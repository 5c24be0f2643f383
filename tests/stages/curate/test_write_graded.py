"""curate with near deduplication and grading, from sources to the artifact."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.quality.texts import advertisement, prose
from tests.stages.curate.test_stage import PUZZLES, jsonl, rows, run
from thinkling.data.documents import read_documents
from thinkling.errors import UserError
from thinkling.generate.backends import Reply
from thinkling.quality.annotator import Example
from thinkling.quality.labeller import Labeller
from thinkling.quality.served_annotator import ServedAnnotator
from thinkling.quality.tags import NAMES, Grades
from thinkling.stages.curate import write_graded

PAGES = {
    "type": "puzzle_pages",
    "puzzles": "puzzles",
    "pages_per_family": 300,
    "noise_fraction": 0.3,
    "duplicate_fraction": 0.05,
}
GRADING: dict[str, Any] = {
    "seeds": {"good": 15, "pages": 30},
    "hq_tokens": 40_000,
    "mq_tokens": 4000,
    "annotated": {"good": 40, "bad": 40, "pages": 240},
    "dimensions": 16,
    "neighbours": 40,
    "bytes_per_token": 2.0,
}


def sources(folder: Path) -> dict[str, Any]:
    rng = random.Random(0)
    folder.mkdir(exist_ok=True)
    good = [{"id": f"g{i}", "text": prose(rng, 16)} for i in range(60)]
    good.append({"id": "again", "text": good[0]["text"].replace("file", "book", 1) + "One more."})
    bad = [{"id": f"b{i}", "text": advertisement(rng, 8)} for i in range(60)]
    return {
        "good": jsonl(folder / "good.jsonl", *good),
        "bad": jsonl(folder / "bad.jsonl", *bad),
        "pages": PAGES,
        "puzzles": PUZZLES,
    }


def grade(folder: Path, **changes: Any) -> Any:
    return run(
        folder / "out",
        sources(folder / "raw"),
        quality={},
        near_dedup={},
        grading=GRADING | changes,
        heldout=["puzzles"],
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("graded")
    return folder / "out", grade(folder)


def test_the_artifact_holds_documents_labeller_examples_and_report_alone(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert names == [
        "annotated.parquet",
        "documents.parquet",
        "grading.json",
        "labeller/labeller.json",
        "labeller/labeller.safetensors",
        "rejected.parquet",
    ]


def test_numbers_in_are_numbers_out(finished: tuple[Path, Any]) -> None:
    folder, ctx = finished
    counts = ctx.counts
    for entry in [counts, *counts["sources"].values()]:
        assert entry["in"] == entry["kept"] + sum(entry["rejected"].values())
    assert counts["kept"] == len(rows(folder / "documents.parquet"))
    assert sum(counts["rejected"].values()) == len(rows(folder / "rejected.parquet"))
    assert counts["rejected"]["near duplicate"] == 1
    assert counts["rejected"]["beyond the token budget"] > 0


def test_documents_have_grades_and_say_why(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    documents = list(read_documents(folder / "documents.parquet"))
    for document in documents:
        assert all(0 <= document[name] <= 9 for name in NAMES)
        assert 0 <= document["similarity"] <= 1
        assert document["value_terms"].startswith(f"value {document['value']:.2f}: ")
    worst_hq = min(d["value"] for d in documents if d["quality"] == "hq")
    assert worst_hq >= max(d["value"] for d in documents if d["quality"] == "mq")
    assert {d["source"] for d in documents} <= {"good", "bad", "pages"}
    for rejected in rows(folder / "rejected.parquet"):
        if rejected["reason"] == "beyond the token budget":
            assert rejected["detail"].startswith("value ")


def test_grades_tell_good_from_bad(finished: tuple[Path, Any]) -> None:
    folder, ctx = finished
    split = ctx.counts["split"]
    # The budget just holds what is good and sound, so each damaged page that slips in pushes one of these out.
    assert split["good"]["hq"]["documents"] >= 55
    assert set(split["bad"]) == {"beyond the token budget"}
    hq = {name: split[name].get("hq", {"documents": 0})["documents"] / ctx.counts["sources"][name]["in"]
          for name in ("pages", "pages-noisy")}  # fmt: skip
    assert hq["pages"] > 0.8
    assert hq["pages-noisy"] < 0.4
    pages = [d for d in rows(folder / "documents.parquet") if d["source"] == "pages"]
    damaged = [d["correctness"] for d in pages if d["id"].startswith("pages-noisy/")]
    sound = [d["correctness"] for d in pages if d["id"].startswith("pages/")]
    assert sum(sound) / len(sound) > sum(damaged) / max(len(damaged), 1) + 2


def test_the_report_states_agreement_recall_and_importance(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    report = json.loads((folder / "grading.json").read_text())
    assert report["retrieval"] == {"seeds": 45, "exact": True, "recall": 1.0}
    assert set(report["held_out_agreement"]["all"]) == set(NAMES)
    assert report["held_out_agreement"]["symbols"]["correctness"]["n"] > 10
    assert {"content", "format", "similarity"} < set(report["quality"]["importance"])
    examples = rows(folder / "annotated.parquet")
    assert len(examples) == report["examples"]
    assert Counter(e["damage"] != "" for e in examples).keys() == {True, False}


def test_the_saved_labeller_gives_the_grades_in_the_file(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    labeller = Labeller.load(folder / "labeller")
    documents = rows(folder / "documents.parquet")[:50]
    found = labeller.grade(labeller.space.features([d["text"] for d in documents]))
    assert found.tolist() == [[d[name] for name in NAMES] for d in documents]


def test_a_saved_labeller_grades_in_place_of_annotating_and_fitting(finished: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = finished
    given = {name: GRADING[name] for name in ("seeds", "hq_tokens", "mq_tokens", "neighbours", "bytes_per_token")}
    raw = sources(tmp_path / "raw")
    run(
        tmp_path / "out",
        raw,
        quality={},
        near_dedup={},
        grading=given | {"labeller": str(folder / "labeller")},
        heldout=["puzzles"],
    )
    wanted = {d["id"]: [d[name] for name in NAMES] for d in rows(folder / "documents.parquet")}
    found = {d["id"]: [d[name] for name in NAMES] for d in rows(tmp_path / "out/documents.parquet")}
    both = wanted.keys() & found.keys()
    assert len(both) > 100
    assert {i: wanted[i] for i in both} == {i: found[i] for i in both}
    report = json.loads((tmp_path / "out/grading.json").read_text())
    assert (report["examples"], report["held_out_agreement"]) == (0, {})
    assert not (tmp_path / "out/annotated.parquet").exists()
    for name in ("labeller.json", "labeller.safetensors"):
        assert (tmp_path / "out/labeller" / name).read_bytes() == (folder / "labeller" / name).read_bytes()


def test_equal_runs_write_equal_bytes(finished: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = finished
    (tmp_path / "out/work/lance").mkdir(parents=True)
    (tmp_path / "out/work/pool.parquet").write_bytes(b"half")
    grade(tmp_path)
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(folder)).read_bytes(), path.name


def test_minimum_and_weights(tmp_path: Path) -> None:
    ctx = grade(
        tmp_path,
        minimum={"impartial": 3},
        weights={"similarity": 1.0},
        mq_tokens=None,
    )
    assert ctx.counts["rejected"]["low impartial"] >= 55
    assert "beyond the token budget" not in ctx.counts["rejected"]
    documents = rows(tmp_path / "out/documents.parquet")
    worst_hq = min(d["similarity"] for d in documents if d["quality"] == "hq")
    assert worst_hq >= max(d["similarity"] for d in documents if d["quality"] == "mq")


class NeverAsked:
    def reply(self, *_: Any, **__: Any) -> list[Reply]:
        raise AssertionError


def test_a_served_annotator_takes_the_rules_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(ServedAnnotator):
        def annotate(self, examples: Sequence[Example]) -> list[Grades]:
            return [{"prose": len(example.text) % 10} for example in examples]

    monkeypatch.setattr(write_graded, "_annotator", lambda config, ctx: Flat(NeverAsked()))
    grade(tmp_path, annotator={"url": "http://localhost:1/v1", "model": "m"})
    examples = rows(tmp_path / "out/annotated.parquet")
    assert {e["correctness"] for e in examples} == {None}
    assert {e["prose"] for e in examples} == set(range(10))


def test_seeds_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grading\.seeds: all documents"):
        run(
            tmp_path / "out",
            {"good": sources(tmp_path / "raw")["good"]},
            quality={},
            grading=GRADING | {"seeds": {"good": 999}, "annotated": 100},
        )


def test_near_dedup_alone_keeps_the_quality_of_the_source(tmp_path: Path) -> None:
    ctx = run(tmp_path / "out", {"good": sources(tmp_path / "raw")["good"]}, near_dedup={})
    assert ctx.counts["rejected"] == {"near duplicate": 1}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["documents.parquet", "rejected.parquet"]
    assert pq.read_table(tmp_path / "out/documents.parquet").num_columns == 5
    assert rows(tmp_path / "out/rejected.parquet")[0]["detail"] == "of good/g0"
