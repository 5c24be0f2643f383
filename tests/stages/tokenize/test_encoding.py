"""Tokens are the same bytes for every number of worker processes, and after any number of kills."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinkling.data.artifact import Artifact
from thinkling.data.documents import write_documents
from thinkling.data.shards import open_sources
from thinkling.data.tokenizer import train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError
from thinkling.stages.base import StageContext
from thinkling.stages.tokenize import encoding, stage
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.tokenize.encoding import Encoded, Job, encode_all, read_reply, serve, write_reply
from thinkling.stages.tokenize.journal import JOURNAL

N = 90


def documents() -> list[dict[str, Any]]:
    return [
        {
            "id": str(i),
            "text": f"Document {i}: " + "the reader and the writer, <think> aloud\n" * (i % 7 + 1),
            "source": "web" if i % 3 else "pages",
            "quality": "hq" if i < 60 else "mq",
            "markup": i % 3 == 0,
        }
        for i in range(N)
    ]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Documents in nine row groups."""
    write_documents(tmp_path / "documents.parquet", documents(), rows_per_group=10)
    return tmp_path


def tokenize(workplace: Path, out: str) -> StageContext:
    (workplace / out).mkdir(exist_ok=True)
    ctx = StageContext("tokenize", workplace / out, {"documents": Artifact(workplace, {})}, seed=0)
    ctx.tokenizer = TokenizerConfig(vocab_size=280)
    stage.run(TokenizeConfig(kind="tokenize", validation_fraction=0.2), ctx)
    return ctx


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file() and p.name != JOURNAL
    }


@pytest.mark.parametrize("n_workers", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    one = tokenize(workplace, "one")
    monkeypatch.setattr(stage, "workers_for", lambda characters: n_workers)
    many = tokenize(workplace, "many")
    assert content(many.directory) == content(one.directory)
    assert many.counts == one.counts
    assert sum(s.n_documents for s in open_sources(many.directory / "shards").values()) == 72


class Killed(BaseException):
    """Not caught by any code, as a signal is not."""


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_a_killed_run_continues_with_equal_bytes(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    """Killed after each row group, before its journal is written or after, and after all files are finished."""
    whole = tokenize(workplace, "whole")
    monkeypatch.setattr(stage, "SAVE_SECONDS", save_seconds)
    trained, encoded = [], []
    train, encode, write = stage._trained, encoding.encode, stage.write_journal

    def kill_before(function: Any, after: int) -> Any:
        calls = iter(range(after))

        def called(*arguments: Any) -> Any:
            if next(calls, None) is None:
                raise Killed
            return function(*arguments)

        return called

    def count_training(*arguments: Any) -> Any:
        trained.append(1)
        return train(*arguments)

    def count_encoding(path: Path, job: Job, tokenizer: Any) -> Any:
        encoded.append(job.row_group)
        return encode(path, job, tokenizer)

    monkeypatch.setattr(stage, "_trained", count_training)
    for n in (0, 1, 3):
        monkeypatch.setattr(encoding, "encode", kill_before(count_encoding, n))
        with pytest.raises(Killed):
            tokenize(workplace, "killed")
    assert encoded == ([0, 1, 2, 3] if save_seconds == 0 else [0, 0, 1, 2])
    monkeypatch.setattr(encoding, "encode", count_encoding)
    monkeypatch.setattr(stage, "write_journal", kill_before(write, 2 if save_seconds == 0 else 0))
    with pytest.raises(Killed):
        tokenize(workplace, "killed")
    monkeypatch.setattr(stage, "write_journal", write)
    monkeypatch.setattr(stage, "_counts_of", kill_before(None, 0))
    with pytest.raises(Killed):
        tokenize(workplace, "killed")
    monkeypatch.undo()
    again = tokenize(workplace, "killed")
    assert content(again.directory) == content(whole.directory)
    assert again.counts == whole.counts
    assert len(trained) == 1


def test_a_corrupt_file_of_a_killed_run_is_a_user_error(workplace: Path) -> None:
    ctx = tokenize(workplace, "out")
    tokens = ctx.directory / "shards/hq-web/tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2] + b"\x01\x01")
    with pytest.raises(UserError, match=r"hq-web\.tmp: its files are corrupt; delete"):
        tokenize(workplace, "out")
    (ctx.directory / "tokenizer/tokenizer.json").write_bytes(b"{}")
    with pytest.raises(UserError, match="tokenizer is corrupt"):
        tokenize(workplace, "out")
    (ctx.directory / JOURNAL).write_text('{"row_groups"')
    with pytest.raises(UserError, match="corrupt; delete"):
        tokenize(workplace, "out")


def test_replies_are_read_as_written() -> None:
    parts = [
        Encoded("shards", "hq-a", np.array([2, 1]), np.array([5, 6, 7], "<u2").tobytes(), 9),
        Encoded("validation", "mq-b", np.array([1]), np.array([8], "<u2").tobytes(), 1),
    ]
    stream = io.BytesIO()
    write_reply(stream, parts)
    first = len(stream.getvalue())
    write_reply(stream, [])
    whole = stream.getvalue()
    stream.seek(0)
    for found, wanted in zip(read_reply(stream), parts, strict=True):
        assert found.lengths.tolist() == wanted.lengths.tolist()
        assert found._replace(lengths=wanted.lengths) == wanted
    assert read_reply(stream) == []
    for cut in (0, 10, first - 11, first - 1):
        with pytest.raises(EOFError):
            read_reply(io.BytesIO(whole[:cut]))


def test_an_unreadable_file_is_a_user_error_in_this_process_too(workplace: Path) -> None:
    train_bpe(["abc abc abd " * 50], 268).save(workplace / "t")
    (workplace / "documents.parquet").write_bytes(b"PAR1 not Parquet PAR1")
    replies = io.BytesIO()
    serve(workplace / "documents.parquet", workplace / "t", io.BytesIO(b"[0, []]\n"), replies)
    replies.seek(0)
    with pytest.raises(UserError, match=r"documents\.parquet"):
        read_reply(replies)


def test_a_dead_worker_is_an_error(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found: Iterator[list[Encoded]] = encode_all(workplace / "documents.parquet", [Job(0, ())], workplace, 2)
    with pytest.raises(RuntimeError, match="ended with exit status 1"):
        next(found)


def test_small_texts_are_encoded_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.os, "sched_getaffinity", lambda pid: set(range(16)))
    assert [encoding.workers_for(n) for n in (0, 15_999_999, 16_000_000, 10**12)] == [1, 1, 2, 16]
