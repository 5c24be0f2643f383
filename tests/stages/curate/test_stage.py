"""curate from sources to documents.parquet and rejected.parquet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from thinkling.errors import UserError
from thinkling.pipeline.recipe import read_source
from thinkling.puzzles.sources import PuzzlesSource
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.curate import stage
from thinkling.stages.curate.config import CurateConfig

PUZZLES = {"type": "puzzles", "families": {"sum": {}, "calc": {}}, "heldout_per_family": 5}
PAGES = {
    "type": "puzzle_pages",
    "puzzles": "puzzles",
    "pages_per_family": 30,
    "noise_fraction": 0.2,
    "duplicate_fraction": 0.1,
}


def run(directory: Path, sources: Mapping[str, Any], seed: int = 0, **fields: Any) -> StageContext:
    """Runs the stage over all sources but `unread` and those of type puzzles."""
    read = [name for name, source in sources.items() if source["type"] != "puzzles" and name != "unread"]
    config = CurateConfig.model_validate(
        {"kind": "curate", "sources": read, "quality": dict.fromkeys(read, "hq")} | fields
    )
    directory.mkdir(parents=True, exist_ok=True)
    checked = bound({name: read_source(name, source) for name, source in sources.items()})
    ctx = StageContext("curate", directory, {}, seed, sources=checked)
    stage.run(config, ctx)
    return ctx


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def jsonl(path: Path, *lines: Any) -> dict[str, Any]:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return {"type": "jsonl", "paths": [str(path)]}


def test_bad_line_is_quarantined_with_its_number_and_the_rest_kept(tmp_path: Path) -> None:
    web = jsonl(
        tmp_path / "web.jsonl", {"id": "a", "text": "one"}, '{"text": "tw', {"text": 3}, {"id": "d", "text": "four"}
    )
    ctx = run(tmp_path / "out", {"web": web})
    assert [(d["id"], d["text"]) for d in rows(tmp_path / "out/documents.parquet")] == [
        ("web/a", "one"),
        ("web/d", "four"),
    ]
    rejected = rows(tmp_path / "out/rejected.parquet")
    assert [(r["id"], r["reason"]) for r in rejected] == [
        (f"{tmp_path}/web.jsonl:2", "not JSON"),
        (f"{tmp_path}/web.jsonl:3", "text is not a string"),
    ]
    assert rejected[0]["text"].strip() == '{"text": "tw'
    assert ctx.counts["sources"]["web"] == {
        "in": 4,
        "kept": 2,
        "rejected": {"not JSON": 1, "text is not a string": 1},
        "characters": 7,
    }


def test_duplicates_and_held_out_problems_name_what_they_collide_with(tmp_path: Path) -> None:
    question = PuzzlesSource.model_validate(PUZZLES).problems("heldout")[0].question
    first = jsonl(tmp_path / "a.jsonl", {"id": "1", "text": "some text"}, {"id": "2", "text": f"see {question}, hard!"})
    second = jsonl(tmp_path / "b.jsonl", {"id": "1", "text": " some  text\n"}, {"id": "3", "text": "other"})
    ctx = run(tmp_path / "out", {"a": first, "b": second, "puzzles": PUZZLES}, heldout=["puzzles"])
    rejected = {r["id"]: r for r in rows(tmp_path / "out/rejected.parquet")}
    assert (rejected["b/1"]["reason"], rejected["b/1"]["detail"]) == ("duplicate", "of a/1")
    assert rejected["b/1"]["text"] == " some  text\n"
    assert rejected["a/2"]["reason"].startswith("held-out problem")
    assert rejected["a/2"]["detail"] == question
    assert [d["id"] for d in rows(tmp_path / "out/documents.parquet")] == ["a/1", "b/3"]
    assert ctx.counts["in"] == 4
    assert ctx.counts["rejected"] == {"duplicate": 1, rejected["a/2"]["reason"]: 1}
    assert ctx.counts["heldout_problems"] == 10


def test_pages_are_split_into_sound_and_damaged_and_hold_no_held_out_problem(tmp_path: Path) -> None:
    run(tmp_path, {"pages": PAGES, "puzzles": PUZZLES}, heldout=["puzzles"])
    documents = rows(tmp_path / "documents.parquet")
    assert {(d["source"], d["quality"]) for d in documents} == {("pages", "hq"), ("pages-noisy", "mq")}
    assert all(d["markup"] for d in documents)
    assert len({d["text"] for d in documents}) == len(documents)
    held = {p.question for p in PuzzlesSource.model_validate(PUZZLES).problems("heldout")}
    assert not [d for d in documents if d["text"].replace("=", ":").split(":")[0] in held]
    assert {r["reason"] for r in rows(tmp_path / "rejected.parquet")} == {"duplicate"}


def test_numbers_in_are_numbers_out(tmp_path: Path) -> None:
    text = jsonl(tmp_path / "t.jsonl", *({"text": f"text {i % 7}"} for i in range(20)), "[]", {"text": "  "})
    counts = run(tmp_path / "out", {"t": text, "pages": PAGES, "puzzles": PUZZLES}, heldout=["puzzles"]).counts
    for entry in [counts, *counts["sources"].values()]:
        assert entry["in"] == entry["kept"] + sum(entry["rejected"].values())
    assert counts["in"] == 22 + 60
    assert counts["kept"] == len(rows(tmp_path / "out/documents.parquet"))
    assert sum(counts["rejected"].values()) == len(rows(tmp_path / "out/rejected.parquet"))


def test_equal_runs_write_equal_bytes_and_leftovers_are_removed(tmp_path: Path) -> None:
    sources = {"topics": {"type": "python_stdlib", "part": "topics"}, "pages": PAGES, "puzzles": PUZZLES}
    run(tmp_path / "one", sources, heldout=["puzzles"])
    (tmp_path / "two").mkdir()
    (tmp_path / "two/documents.parquet.tmp").write_bytes(b"half")
    (tmp_path / "two/old").mkdir()
    run(tmp_path / "two", sources, heldout=["puzzles"])
    names = ["documents.parquet", "provenance.json", "rejected.parquet"]
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    run(tmp_path / "three", sources, seed=1, heldout=["puzzles"])
    assert (tmp_path / "one/documents.parquet").read_bytes() != (tmp_path / "three/documents.parquet").read_bytes()


def test_broken_parquet_stops_the_run_by_name_and_leaves_no_documents(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(500)]}), good)
    content = bytearray(good.read_bytes())
    bad.write_bytes(content[: len(content) // 2])
    source = {"type": "parquet", "paths": [str(good), str(bad)]}
    with pytest.raises(UserError, match=r"bad\.parquet"):
        run(tmp_path / "out", {"web": source})
    assert list((tmp_path / "out").iterdir()) == []


def test_parquet_and_text_files_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["x", "y"], "content": ["from a column", None]}), tmp_path / "p.parquet")
    (tmp_path / "n.txt").write_text("from a file\r\n", newline="")
    (tmp_path / "m.txt").write_bytes(b"caf\xe9")
    parquet = {"type": "parquet", "paths": [str(tmp_path / "p.parquet")], "text_field": "content"}
    text = {"type": "text", "paths": [str(tmp_path / "*.txt")]}
    run(tmp_path / "out", {"p": parquet, "t": text})
    documents = rows(tmp_path / "out/documents.parquet")
    assert [(d["id"], d["text"]) for d in documents] == [
        ("p/x", "from a column"),
        (f"t/{tmp_path.name}/n.txt", "from a file\r\n"),
    ]
    assert [r["reason"] for r in rows(tmp_path / "out/rejected.parquet")] == ["no text", "not UTF-8"]


def test_an_id_given_twice_stays_unique(tmp_path: Path) -> None:
    run(tmp_path / "out", {"w": jsonl(tmp_path / "w.jsonl", {"id": "1", "text": "a"}, {"id": "1", "text": "b"})})
    assert [d["id"] for d in rows(tmp_path / "out/documents.parquet")] == ["w/1", "w/1#2"]


def test_limits_quarantine_with_the_whole_text(tmp_path: Path) -> None:
    web = jsonl(tmp_path / "w.jsonl", {"text": "ab"}, {"text": "x" * 200_000}, {"text": "just right"})
    run(tmp_path / "out", {"w": web}, min_characters=3, max_characters=100)
    rejected = rows(tmp_path / "out/rejected.parquet")
    assert [(r["reason"], len(r["text"])) for r in rejected] == [("too short", 2), ("too long", 200_000)]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"w": {"type": "text", "paths": ["no/such/*.txt"]}}, r"no/such/\*\.txt: no such file"),
        ({"w": {"type": "tokens", "tokens": 5}}, r"sources\.w: a source of type tokens offers tokens, not documents"),
        (
            {"p": PAGES | {"puzzles": "unread"}, "unread": {"type": "tokens", "tokens": 5}},
            r"sources\.p\.puzzles: .unread. is of type tokens, not puzzles",
        ),
        ({"pages": PAGES, "pages-noisy": PAGES, "puzzles": PUZZLES}, r"sources\.pages-noisy: .*rename"),
    ],
)
def test_user_errors_name_the_source(tmp_path: Path, sources: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", sources)


def test_a_source_without_a_single_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sources\.w: no usable document in 2 records \(no text 2\)"):
        run(tmp_path / "out", {"w": jsonl(tmp_path / "w.jsonl", {"body": "a"}, {"body": "b"})})
    assert not (tmp_path / "out/documents.parquet").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": ["a"], "quality": {}}, r"quality\.a: missing"),
        ({"sources": ["a"], "quality": {"a": "hq", "b": "mq"}}, r"quality\.b: not one"),
        ({"sources": ["a", "a"], "quality": {"a": "hq"}}, "'a' is listed twice"),
    ],
)
def test_config_wants_a_quality_for_every_source(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CurateConfig.model_validate({"kind": "curate"} | fields)
