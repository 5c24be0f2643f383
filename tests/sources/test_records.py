"""Where records come from: files, directories, patterns, saved data sets, the hub's cache."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkling.data import hub
from thinkling.errors import UserError
from thinkling.sources.models import ModelSource
from thinkling.sources.records import RecordsSource, ending

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Plain(RecordsSource):
    type: Literal["plain"] = "plain"


def source(**fields: Any) -> Plain:
    return Plain(**fields).bind("mine", {})


def values(**fields: Any) -> list[Any]:
    return [record.fields["n"] for record in source(**fields).records()]


def put(path: Path, *numbers: int) -> None:
    """Records `{"n": …}` in the form that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"n": n} for n in numbers]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    match ending(path.name):
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".json":
            path.write_text(json.dumps(rows))
        case _ if path.suffix == ".gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case _:
            path.write_text(lines)


def test_a_directory_is_read_in_order_and_hidden_files_and_others_are_not(tmp_path: Path) -> None:
    put(tmp_path / "b.jsonl", 3)
    put(tmp_path / "a" / "x.parquet", 1, 2)
    put(tmp_path / "c.json", 4)
    put(tmp_path / "d.ndjson.gz", 5)
    put(tmp_path / ".hidden.jsonl", 99)
    put(tmp_path / ".git" / "e.jsonl", 99)
    (tmp_path / "README.md").write_text("not data")
    assert values(path=str(tmp_path)) == [1, 2, 3, 4, 5]
    assert source(path=str(tmp_path)).summary() == "4 files"
    assert values(path=f"{tmp_path}/*.json*") == [3, 4]
    assert values(path=f"{tmp_path}/**/*") == [1, 2, 3, 4, 5]
    assert values(paths=[f"{tmp_path}/c.json", f"{tmp_path}/*.json*"]) == [4, 3], "each file once"
    assert set(source(path=str(tmp_path / "a")).digests()) == {str(tmp_path / "a" / "x.parquet")}
    assert values(path=str(tmp_path), subset="a") == [1, 2]


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "secret.jsonl", 99)
    put(tmp_path / "elsewhere" / "f.jsonl", 99)
    put(tmp_path / "data" / "a.jsonl", 1)
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (tmp_path / "data" / "c.jsonl").symlink_to("a.jsonl")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "elsewhere")
    assert values(path=str(tmp_path / "data")) == [1, 1]
    assert values(path=f"{tmp_path}/data/*") == [1, 1]
    assert values(path=f"{tmp_path}/data/**/*.jsonl") == [1, 1]
    assert source(path=str(tmp_path / "data")).summary() == "2 files (2 links out of their directory skipped)"
    assert values(path=str(tmp_path / "data" / "b.jsonl")) == [99], "a link that the recipe itself names"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "none.jsonl", "no such file or directory"),
        (lambda d: d, "no files in a supported format"),
        (lambda d: f"{d}/*.jsonl", "no files in a supported format"),
        (lambda d: d / "a.csv", "unsupported format"),
    ],
)
def test_paths_without_records_are_named(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=f"sources.mine: .*{message}"):
        source(path=str(make(tmp_path))).digests()


def test_a_saved_data_set_and_one_with_splits(tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(5)]
    datasets.Dataset.from_list(rows).select([4, 1, 2]).save_to_disk(tmp_path / "one", num_shards=2)
    assert values(path=str(tmp_path / "one")) == [4, 1, 2]
    split = datasets.DatasetDict(train=datasets.Dataset.from_list(rows[:3]), extra=datasets.Dataset.from_list(rows[3:]))
    split.save_to_disk(tmp_path / "dict")
    assert values(path=str(tmp_path / "dict"), split="train") == [0, 1, 2]
    assert values(path=str(tmp_path / "dict"), split="extra") == [3, 4]
    with pytest.raises(UserError, match="has the splits extra, train; choose one with split"):
        values(path=str(tmp_path / "dict"))
    with pytest.raises(UserError, match="no files of split 'dev'"):
        values(path=str(tmp_path / "dict"), split="dev")
    (tmp_path / "one" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(UserError, match=r"state\.json lists 'data-00001-of-00002\.arrow', which is not in"):
        values(path=str(tmp_path / "one"))


def test_both_arrow_formats(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(2500))})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    assert values(path=str(tmp_path)) == [*range(2500), *range(2500)]
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"a\.arrow: cannot be read"):
        values(path=str(tmp_path / "a.arrow"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The hub's cache, without a network: files of `org/name` as huggingface_hub lays them out."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    hub.snapshot.cache_clear()

    def fill(repo: str, kind: str, **files: bytes) -> None:
        folder = tmp_path / "hub" / f"{kind}s--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        (folder / "blobs").mkdir(exist_ok=True)
        for number, (name, content) in enumerate(files.items()):
            (folder / "blobs" / f"{number:040d}").write_bytes(content)
            link = folder / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / "blobs" / f"{number:040d}")

    return fill


def test_a_data_set_of_the_hub_by_its_name(cache: Callable[..., None]) -> None:
    line = b'{"n": %d}\n'
    files = {
        f"{subset}/{split}-00000-of-00001.jsonl": line % number
        for number, (subset, split) in enumerate(
            [("main", "train"), ("main", "test"), ("other", "train"), ("other", "train_sft")]
        )
    }
    cache("org/sums", "dataset", **files, **{"loader.py": b"raise SystemExit"})
    assert values(path="org/sums", subset="main", split="train") == [0]
    assert values(path="org/sums", subset="other", split="train_sft") == [3]
    assert values(path="org/sums", subset="main", split="test", revision=COMMIT) == [1]
    one = source(path="org/sums", subset="main", split="train")
    assert list(one.digests()) == [f"org/sums@{COMMIT}/main/train-00000-of-00001.jsonl"]
    assert one.summary() == f"1 file, org/sums@{COMMIT}"
    with pytest.raises(UserError, match="has the splits test, train; choose one with split"):
        values(path="org/sums", subset="main")
    with pytest.raises(UserError, match="has the splits train, train_sft"):
        values(path="org/sums", subset="other")
    with pytest.raises(UserError, match="has the subsets main, other; choose one with subset"):
        values(path="org/sums", split="train")
    with pytest.raises(UserError, match="no files of subset 'min'; the subsets are main, other"):
        values(path="org/sums", subset="min")


def test_a_name_that_is_not_cached_is_one_line_where_there_is_no_network(cache: Callable[..., None]) -> None:
    with pytest.raises(UserError, match=r"org/none: no such local path, .*hf download org/none") as caught:
        source(path="org/none").digests()
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="at revision 'v1'"):
        source(path="org/none", revision="v1").digests()


def test_a_model_of_the_hub_by_its_name(cache: Callable[..., None]) -> None:
    cache("org/tiny", "model", **{"config.json": b"{}", "model.safetensors": b"w"})
    model = ModelSource(type="model", path="org/tiny").bind("start", {})
    assert model.artifact().model_dir.name == COMMIT
    assert model.summary() == f"org/tiny@{COMMIT}/config.json"
    with pytest.raises(UserError, match=r"models/start: no such local path, and the model .*hf download"):
        ModelSource(type="model", path="models/start").artifact()
    with pytest.raises(ValueError, match=r"\./tiny is not a Hub name"):
        ModelSource(type="model", path="./tiny", revision="main")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"set exactly one of path and paths \(a list\)"),
        ({"path": "a", "paths": ["b"]}, r"set exactly one of path and paths \(a list\)"),
        ({"path": "./a.jsonl", "revision": "main"}, "no path is a Hub name"),
    ],
)
def test_fields_that_contradict_each_other(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plain(**fields)


def test_a_missing_file_of_a_known_form_is_not_looked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinkling.sources.records.snapshot", lambda *asked: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=r"data/chats\.jsonl: no such file or directory"):
        list(source(path="data/chats.jsonl").records())
