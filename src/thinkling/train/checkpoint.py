"""Checkpoints of the training state, which are either complete or absent, even if the process is killed.

A checkpoint is a directory `step-00000120` (120 steps done) with torch.distributed.checkpoint's safetensors shards, one
per rank, and a `state.json` with their digests. The directory is written as `….tmp`, flushed to disk, then renamed. The
number of ranks that read a checkpoint may differ from the number that wrote it. Checkpoints do not contain pickles.
Equal states produce equal bytes, whether a checkpoint is written at once or in the background.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from thinkling.data.artifact import file_digest, hash_of
from thinkling.errors import UserError
from thinkling.train.callback import SavedCheckpoint
from thinkling.train.parallel import Parallel
from thinkling.train.staging import HostCopy, ignore_single_process, in_background

FORMAT = 2
WEIGHTS = "model."
"""Prefix of the model's weights among the tensors of a training state."""
STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})")


class Checkpoints:
    """The newest `keep` checkpoints of a training run. `warn` is called for corrupt checkpoints.

    With `background`, `save` copies the state to host memory and returns, and a thread writes the copy. The threads of
    all ranks communicate through a process group of their own, never through the one that training uses.
    """

    def __init__(
        self,
        directory: Path,
        every_steps: int,
        keep: int = 2,
        warn: Callable[[str], None] = warnings.warn,
        background: bool = False,
    ) -> None:
        if every_steps < 1 or keep < 1:
            raise ValueError(f"every_steps is {every_steps} and keep is {keep}; both must be at least 1")
        self.directory = directory
        self.every_steps = every_steps
        self.keep = keep
        self._warn = warn
        self._copy = HostCopy() if background else None
        self._being_written: Future[SavedCheckpoint] | None = None
        self._saved: list[SavedCheckpoint] = []

    def latest(self, parallel: Parallel | None = None) -> Path | None:
        """Return the latest checkpoint whose files are intact, as seen by rank 0; None if there are no checkpoints.

        Newer checkpoints that are corrupt are reported, and set aside until the next checkpoint is written. Raises
        UserError if all checkpoints are corrupt, rather than silently starting from the beginning.
        """
        parallel = parallel or Parallel()
        step = self._newest_whole() if parallel.rank == 0 else 0
        if parallel.world_size > 1:
            step = int(parallel.all_reduce_sum(torch.tensor(step, device=parallel.device)))
        return self._path(step) if step else None

    def _newest_whole(self) -> int:
        damaged: list[str] = []
        for step in sorted(self._steps(), reverse=True):
            path = self._path(step)
            reason = _damage(path)
            if reason is None:
                break
            damaged.append(reason)
        else:
            if damaged:
                raise UserError(
                    f"{damaged[0]}, and no other checkpoint is intact; delete {self.directory} to start again"
                )
            return 0
        for reason, newer in zip(damaged, sorted(self._steps(), reverse=True), strict=False):
            self._warn(f"{reason}; resuming from {path.name}")
            self._put_aside(self._path(newer))
        return step

    def save(
        self,
        step: int,
        tensors: dict[str, Tensor],
        parallel: Parallel | None = None,
        add_files: Callable[[Path], object] | None = None,
    ) -> Path:
        """Write the state after `step` ≥ 1 steps, then delete all but the newest `keep` checkpoints. Return the path of
        the checkpoint.

        All ranks must call this method, each with its shards (DTensors) or copies. torch's random state of each rank is
        also stored. `add_files` writes more files to the directory that it receives, which is not the final path: the
        checkpoint does not exist before it is complete. In the background, the checkpoint is complete after `wait`;
        this method first waits for the checkpoint before, and raises its error.
        """
        began = time.monotonic()
        self.wait()
        parallel = parallel or Parallel()
        if self._copy is not None:
            parallel = parallel.for_checkpoints()
            ignore_single_process()
        partial = self._path(step).with_name(self._path(step).name + ".tmp")
        if parallel.rank == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob("step-*.tmp"):
                shutil.rmtree(leftover)
            partial.mkdir()
        parallel.barrier()
        state = _writable(tensors | _random_state(parallel.rank, parallel.device))
        if self._copy is not None:
            state = self._copy.copy(state)
        if add_files is not None:
            add_files(partial)
        if self._copy is None:
            self._complete(step, partial, state, parallel)
            seconds = time.monotonic() - began
            self._saved.append(SavedCheckpoint(step, self._path(step), seconds, seconds))
            return self._path(step)
        blocked = time.monotonic() - began

        def write() -> SavedCheckpoint:
            started = time.monotonic()
            self._complete(step, partial, state, parallel)
            return SavedCheckpoint(step, self._path(step), blocked, time.monotonic() - started)

        self._being_written = in_background(write, parallel.device)
        return self._path(step)

    def _complete(self, step: int, partial: Path, state: dict[str, Tensor], parallel: Parallel) -> None:
        """Write the state to `partial`, rename the directory, and delete old checkpoints."""
        _write(partial, state, parallel)
        if parallel.rank == 0:
            files = {
                file.name: {"bytes": file.stat().st_size, "sha256": file_digest(file)}
                for file in sorted(partial.glob("*.safetensors"))
            }
            state_json: dict[str, Any] = {
                "format": FORMAT,
                "step": step,
                "world_size": parallel.world_size,
                "files": files,
            }
            state_json["digest"] = hash_of(state_json)
            with open(partial / STATE, "w", encoding="utf-8") as file:
                file.write(json.dumps(state_json, indent=1, sort_keys=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
            _flush_directory(partial)
            os.rename(partial, self._path(step))
            _flush_directory(self.directory)
            for old in sorted(self._steps())[: -self.keep]:
                shutil.rmtree(self._put_aside(self._path(old)))
        parallel.barrier()

    def wait(self) -> None:
        """Wait until no checkpoint is being written in the background. Raises the error of a write that failed."""
        if self._being_written is not None:
            being_written, self._being_written = self._being_written, None
            self._saved.append(being_written.result())

    def finished(self) -> list[SavedCheckpoint]:
        """Return the checkpoints that were completed since the last call, without waiting. Raises the error of a write
        that failed."""
        if self._being_written is not None and self._being_written.done():
            self.wait()
        saved, self._saved = self._saved, []
        return saved

    def close(self) -> None:
        """`wait`, then free the copy of the state."""
        try:
            self.wait()
        finally:
            if self._copy is not None:
                self._copy.free()

    def load(self, path: Path, tensors: dict[str, Tensor], parallel: Parallel | None = None) -> int:
        """Read a checkpoint into `tensors`, in place, set torch's random state, and return the number of steps done.

        A rank that did not exist when the checkpoint was written takes the random state of the rank with its number
        modulo the old world size. Raises UserError if the stored tensors do not match `tensors`.
        """
        parallel = parallel or Parallel()
        state_json = json.loads((path / STATE).read_text(encoding="utf-8"))
        random = _random_state(parallel.rank % state_json["world_size"], parallel.device)
        for name, tensor in _read(path, tensors, parallel, random).items():
            if name.startswith("random.cuda."):
                torch.cuda.set_rng_state(tensor, parallel.device)
            else:
                torch.set_rng_state(tensor)
        return state_json["step"]

    def _put_aside(self, path: Path) -> Path:
        """Rename a checkpoint to the name of an unfinished checkpoint, which the next `save` deletes. A partly deleted
        directory must never have the name of a complete checkpoint."""
        aside = path.with_name(path.name + ".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
        return aside

    def _path(self, step: int) -> Path:
        """Path of the checkpoint after `step` steps, whether or not it exists."""
        return self.directory / f"step-{step:08d}"

    def _steps(self) -> list[int]:
        """Numbers of steps of the existing checkpoints."""
        if not self.directory.is_dir():
            return []
        return [int(match[1]) for entry in self.directory.iterdir() if (match := _NAME.fullmatch(entry.name))]


def _damage(checkpoint: Path) -> str | None:
    """Return an error message about the first file that is missing or was changed after it was written; None if all
    files are intact.

    Raises UserError if the checkpoint was written in a different format.
    """
    state = checkpoint / STATE
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
    except OSError as error:
        return f"{state}: cannot be read ({error.strerror})"
    except ValueError:
        return f"{state}: is corrupt"
    if not isinstance(found, dict):
        return f"{state}: is corrupt"
    digest = found.pop("digest", None)  # format 1 had no digest
    if digest is not None and digest != hash_of(found):
        return f"{state}: is corrupt"
    if found.get("format") != FORMAT or digest is None:
        raise UserError(
            f"{checkpoint}: has format {found.get('format')}, but this version of thinkling reads format {FORMAT}; "
            "delete the checkpoint"
        )
    for name, wanted in found["files"].items():
        file = checkpoint / name
        if not file.is_file():
            return f"{file}: is missing"
        if file.stat().st_size != wanted["bytes"] or file_digest(file) != wanted["sha256"]:
            return f"{file}: is corrupt"
    return None


def keep_state(directory: Path, tensors: dict[str, Tensor], parallel: Parallel) -> None:
    """Write tensors into a new directory, as part of an artifact. Equal tensors produce equal bytes.

    All ranks must call this function, each with its shards (DTensors) or copies. Leftovers of a killed run are deleted.
    torch's random state is not stored, because it depends on what else the process did.
    """
    if parallel.rank == 0:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    parallel.barrier()
    _write(directory, _writable(tensors), parallel)


def read_state(directory: Path, tensors: dict[str, Tensor], parallel: Parallel, optional: str | None = None) -> None:
    """Read the output of `keep_state` into `tensors`, in place. The number of ranks may differ from the number that
    wrote the output. Tensors whose names start with `optional` are left unchanged unless all of them are stored with
    the same shapes.

    Raises UserError if the other stored tensors do not match `tensors`.
    """
    _read(directory, tensors, parallel, {}, optional)


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their names in the model. A single process reads the weights, whatever the
    number of ranks that wrote them.

    Raises UserError if the checkpoint is corrupt.
    """
    if reason := _damage(checkpoint):
        raise UserError(f"{reason}; use a different checkpoint")
    reader = HuggingFaceStorageReader(str(checkpoint))
    stored = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(meta.size, dtype=meta.properties.dtype)
        for name, meta in stored.items()
        if name.startswith(WEIGHTS) and isinstance(meta, TensorStorageMetadata)
    }
    with _quiet():
        load(state, storage_reader=reader, no_dist=True)
    return {name.removeprefix(WEIGHTS): tensor for name, tensor in state.items()}


def _write(directory: Path, state: dict[str, Tensor], parallel: Parallel) -> None:
    """Write the output of `_writable`."""
    writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
    # `warnings.catch_warnings` changes the filters of all threads.
    quiet = _quiet() if threading.current_thread() is threading.main_thread() else contextlib.nullcontext()
    with quiet:
        # `save` returns when the files of all ranks are written and flushed.
        save(state, storage_writer=writer, process_group=parallel.group, no_dist=parallel.world_size == 1)
    parallel.barrier()
    if parallel.rank == 0:
        for path in sorted(directory.glob("*.safetensors")):
            _sort_header(path)
    parallel.barrier()


def _read(
    path: Path,
    tensors: dict[str, Tensor],
    parallel: Parallel,
    random: dict[str, Tensor],
    optional: str | None = None,
) -> dict[str, Tensor]:
    """Read a directory into `tensors`, in place, and return the `random` tensors that the directory contains.
    `optional`: see `read_state`."""
    reader = HuggingFaceStorageReader(str(path))
    metadata = reader.read_metadata().state_dict_metadata
    stored = {name: meta.size for name, meta in metadata.items() if isinstance(meta, TensorStorageMetadata)}
    dtypes = {name: metadata[name].properties.dtype for name in stored}  # pyright: ignore[reportAttributeAccessIssue]
    state = _storable(tensors)
    if optional is not None:
        there = {name: tuple(size) for name, size in stored.items() if name.startswith(optional)}
        here = {name: tuple(x.shape) for name, x in state.items() if name.startswith(optional)}
        if there != here:
            stored = {name: size for name, size in stored.items() if name not in there}
            state = {name: x for name, x in state.items() if name not in here}
    for name in sorted(state.keys() | {name for name in stored if not name.startswith("random.")}):
        there = tuple(stored[name]) if name in stored else "none"
        here = tuple(state[name].shape) if name in state else "none"
        if there != here:
            raise UserError(
                f"{path}: the shape of {name} is {there} in the checkpoint and {here} in this run; use the model and "
                "optimizer with which the checkpoint was written"
            )
    for name, tensor in sorted(state.items()):
        there, here = (str(dtype).removeprefix("torch.") for dtype in (dtypes[name], tensor.dtype))
        if there != here:
            raise UserError(
                f"{path}: {name} is {there} in the checkpoint and {here} in this run; set precision.weights as in the "
                "stage that wrote the checkpoint"
            )
    random = {name: tensor for name, tensor in random.items() if name in stored}
    with _quiet():
        load(state | random, storage_reader=reader, no_dist=parallel.world_size == 1)
    return random


def _sort_header(path: Path) -> None:
    """Sort the fields of a safetensors header in place, because safetensors writes metadata in random order.

    A file consists of the length of the header in 8 bytes (little-endian), the header as JSON, possibly padded with
    spaces, and the data.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise RuntimeError(f"{path}: the sorted header takes {len(text)} bytes, more than the {size} available")
        file.seek(8)
        file.write(text.ljust(size))
        file.flush()
        os.fsync(file.fileno())


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return views with at least one dimension, which safetensors slices require. Loading into the views fills the
    given tensors."""
    return {name: x.detach().reshape(1) if x.ndim == 0 else x.detach() for name, x in tensors.items()}


def _writable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `_storable` tensors whose elements are contiguous in memory."""
    return {name: x.contiguous() for name, x in _storable(tensors).items()}


def _random_state(rank: int, device: torch.device) -> dict[str, Tensor]:
    state = {f"random.cpu.{rank}": torch.get_rng_state()}
    if device.type == "cuda":
        state[f"random.cuda.{rank}"] = torch.cuda.get_rng_state(device)
    return state


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warning about saving from a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _flush_directory(path: Path) -> None:
    """Flush a directory to disk. A rename is durable only after the directory itself has been flushed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
