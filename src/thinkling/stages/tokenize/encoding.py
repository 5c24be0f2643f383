"""Encodes the documents of a row group, in this process or in worker processes.

A row group of the documents file is encoded as a whole, and the results are returned in the order of the file. The
tokens therefore do not depend on the number of workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import IO, NamedTuple

import numpy as np

from thinkling.data.documents import Document, read_documents
from thinkling.data.shards import token_dtype
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.stages.tokenize.selection import group_name

SHARDS, VALIDATION = "shards", "validation"
_CHARACTERS_PER_BATCH = 1_000_000
_DOCUMENTS_PER_BATCH = 1024
_CHARACTERS_PER_WORKER = 8_000_000
"""Minimum amount of text per worker process, because a process takes about a second to start."""
_AHEAD = 3
"""Number of row groups per worker that are encoded, or being encoded, before they are written."""


class Encoded(NamedTuple):
    """The documents of a row group that belong to one group and to the same part, encoded."""

    part: str
    """`shards` or `validation`."""
    name: str
    """Name of the group."""
    lengths: np.ndarray
    """Number of tokens per document, with the end-of-text token, int64."""
    content: bytes
    """The token ids, end to end, of type `token_dtype`."""
    text_bytes: int
    """Size of the texts in UTF-8."""


class Job(NamedTuple):
    """A row group to encode."""

    row_group: int
    validation: tuple[int, ...]
    """Places in the row group of the validation documents."""


def workers_for(characters: int) -> int:
    """Returns the number of processes with which to encode a text of this size on this machine."""
    return max(1, min(len(os.sched_getaffinity(0)), characters // _CHARACTERS_PER_WORKER))


def encode(path: Path, job: Job, tokenizer: Tokenizer) -> list[Encoded]:
    """Encodes the documents of a row group. Raises UserError if the file cannot be read."""
    validation, place = set(job.validation), 0
    ids: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    end = np.array([tokenizer.end_of_text_id], dtype=np.int32)
    for batch in _batches(read_documents(path, job.row_group)):
        encoded = tokenizer.encode_batch([d["text"] for d in batch], [d["markup"] for d in batch])
        for document, tokens in zip(batch, encoded, strict=True):
            key = (VALIDATION if place in validation else SHARDS, group_name(document))
            ids[key] += (tokens, end)
            sizes[key] += len(document["text"].encode())
            place += 1
    dtype = token_dtype(tokenizer.vocab_size)
    return [
        Encoded(
            *key,
            np.array([len(tokens) + 1 for tokens in parts[::2]], dtype=np.int64),
            np.concatenate(parts).astype(dtype).tobytes(),
            sizes[key],
        )
        for key, parts in ids.items()
    ]


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields batches of documents. The number of documents and characters per batch is limited to bound memory use."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document["text"])
        if len(batch) == _DOCUMENTS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def encode_all(path: Path, jobs: Sequence[Job], tokenizer_dir: Path, n_workers: int) -> Iterator[list[Encoded]]:
    """Yields the encoded documents of each job, in order.

    With one worker, documents are encoded in this process. Raises UserError if the file cannot be read, and
    RuntimeError if a worker process died.
    """
    if n_workers == 1:
        tokenizer = Tokenizer.load(tokenizer_dir)
        for job in jobs:
            yield encode(path, job, tokenizer)
        return
    with _workers(path, tokenizer_dir, n_workers) as encode_one, ThreadPoolExecutor(n_workers, "encode") as pool:
        under_way: deque[Future[list[Encoded]]] = deque()
        try:
            for job in jobs:
                under_way.append(pool.submit(encode_one, job))
                if len(under_way) == _AHEAD * n_workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


@contextmanager
def _workers(path: Path, tokenizer_dir: Path, n_workers: int) -> Iterator[Callable[[Job], list[Encoded]]]:
    """Starts worker processes. Yields a function that has a job done by an idle worker, to be called from as many
    threads."""
    command = [sys.executable, "-m", "thinkling.stages.tokenize.encoding", str(path), str(tokenizer_dir)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    # In a session of their own, the workers do not receive Ctrl-C. They end when this process does.
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        for _ in range(n_workers)
    ]
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def encode_one(job: Job) -> list[Encoded]:
        process = idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            return read_reply(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"a worker process of tokenize ended with exit status {process.wait()}") from error
        finally:
            idle.put(process)

    try:
        yield encode_one
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def write_reply(stream: IO[bytes], reply: Sequence[Encoded] | str) -> None:
    """Writes the encoded documents, or the message of a UserError."""
    if isinstance(reply, str):
        stream.write(json.dumps({"error": reply}).encode() + b"\n")
    else:
        heads = [[e.part, e.name, len(e.lengths), len(e.content), e.text_bytes] for e in reply]
        stream.write(json.dumps({"parts": heads}).encode() + b"\n")
        for encoded in reply:
            stream.write(encoded.lengths.astype("<i8").tobytes())
            stream.write(encoded.content)
    stream.flush()


def read_reply(stream: IO[bytes]) -> list[Encoded]:
    """Reads what `write_reply` wrote. Raises UserError for a message, and EOFError if the stream ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    if "error" in head:
        raise UserError(head["error"])
    found = []
    for part, name, n_documents, size, text_bytes in head["parts"]:
        lengths, content = stream.read(8 * n_documents), stream.read(size)
        if len(content) < size:
            raise EOFError
        found.append(Encoded(part, name, np.frombuffer(lengths, dtype="<i8").astype(np.int64), content, text_bytes))
    return found


def serve(path: Path, tokenizer_dir: Path, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Encodes the jobs that are read from `requests`, until it ends."""
    tokenizer = Tokenizer.load(tokenizer_dir)
    for line in requests:
        row_group, validation = json.loads(line)
        try:
            reply: list[Encoded] | str = encode(path, Job(row_group, tuple(validation)), tokenizer)
        except UserError as error:
            reply = str(error)
        write_reply(replies, reply)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
