"""Execution of a recipe, one artifact per stage. Finished stages are skipped, and interrupted stages are resumed."""

from __future__ import annotations

import fcntl
import importlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from thinkling.data.artifact import (
    MANIFEST,
    Artifact,
    complete,
    directory_digests,
    finish,
    hash_of,
    is_finished,
    read_manifest,
    verify,
)
from thinkling.errors import UserError
from thinkling.pipeline import space
from thinkling.pipeline.checks import check
from thinkling.pipeline.memory import PeakMemory
from thinkling.pipeline.progress import TerminalProgress
from thinkling.pipeline.recipe import Recipe
from thinkling.progress import Silent
from thinkling.seeds import derive
from thinkling.stages.base import StageConfig, StageContext

State = Literal["done", "partial", "to do", "waiting", "skipped"]


@dataclass(frozen=True)
class Done:
    """A finished stage of a run. `skipped`: whether the stage had finished before this command."""

    name: str
    artifact: Artifact
    skipped: bool


class Run:
    """A recipe and its folder. The methods of this class only read from disk."""

    def __init__(self, recipe: Recipe, root: Path) -> None:
        """Create a run of `recipe` in a subfolder of `root`, which is the folder of all runs.

        Raises UserError if the recipe can only be planned.
        """
        if recipe.plan_only:
            raise UserError(f"{recipe.name}: a recipe with `plan_only: true` cannot be run; use thinkling plan RECIPE")
        self.recipe = recipe
        self.directory = root / recipe.name
        self._raw: dict[str, str] = {}

    def resolved(self, name: str) -> dict[str, Any]:
        """Return everything that determines a stage's result, except its inputs.

        The returned mapping is hashed and written to the manifest.
        """
        stage = self.recipe.stages[name]
        sources = self.recipe.sources_of(stage.source_names())
        return {
            "stage": stage.model_dump(mode="json", exclude=set(stage.not_hashed)),
            "output_version": stage.output_version,
            "seed": derive(self.recipe.seed, name),
            **({"threads": self.recipe.threads} if stage.depends_on_threads else {}),
            **{part: getattr(self.recipe, part).model_dump(mode="json") for part in sorted(stage.uses)},
            **({"packages": found} if (found := self.recipe.packages()) and name in self.recipe.judging() else {}),
            "sources": {n: s.model_dump(mode="json") for n, s in sources.items()},
            "raw": {n: self._raw_digest(n) for n in sources}
            | self._tokenizer_digest(stage)
            | {field: hash_of(directory_digests(path)) for field, path in stage.digested_paths().items()},
        }

    def _raw_digest(self, source: str) -> str:
        if source not in self._raw:
            self._raw[source] = hash_of(self.recipe.sources[source].digests())
        return self._raw[source]

    def _tokenizer_digest(self, stage: StageConfig) -> dict[str, str]:
        tokenizer = self.recipe.tokenizer
        if "tokenizer" not in stage.uses or tokenizer is None or tokenizer.path is None:
            return {}
        return {"tokenizer": hash_of(directory_digests(tokenizer.path))}

    def final(self, name: str, inputs: dict[str, Artifact]) -> tuple[Path, str]:
        """Return the path of a stage's artifact, given its inputs, and the full hash."""
        digest = hash_of({**self.resolved(name), "inputs": {role: a.digest for role, a in inputs.items()}})
        return self.directory / f"{name}-{digest[:8]}", digest

    def inputs(self, name: str, done: dict[str, Artifact]) -> dict[str, Artifact] | None:
        """Return the stage's inputs, or None if one of them does not exist yet.

        Raises UserError if one of the user's model directories is missing.
        """
        found: dict[str, Artifact] = {}
        for role, producer in self.recipe.stages[name].inputs.items():
            if producer in self.recipe.sources:
                found[role] = self.recipe.sources[producer].artifact()
            elif producer in done:
                found[role] = done[producer]
            else:
                return None
        return found

    def states(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, State, Path | None]]:
        """Yield the name, state and artifact path of all stages, or of `names`.

        `names` must include all stages that the named stages depend on.
        """
        done: dict[str, Artifact] = {}
        skipped = self.recipe.skipped()
        for name in self.recipe.stages if names is None else names:
            if name in skipped:
                yield name, "skipped", None
                continue
            inputs = self.inputs(name, done)
            if inputs is None:
                yield name, "waiting", None
                continue
            final, _ = self.final(name, inputs)
            if is_finished(final):
                done[name] = Artifact(final, read_manifest(final))
                yield name, "done", final
            else:
                yield name, "partial" if partial_of(final).exists() else "to do", final

    def finished(self, names: Iterable[str] | None = None) -> dict[str, Artifact]:
        """Map each finished stage to its artifact. `names`: as in `states`."""
        return {
            name: Artifact(path, read_manifest(path))
            for name, state, path in self.states(names)
            if path and state == "done"
        }


def partial_of(final: Path) -> Path:
    """Return the directory into which a stage writes until it has finished."""
    return final.with_name(final.name + ".partial")


def execute(run: Run, console: Console, targets: list[str] | None = None) -> list[Done]:
    """Run the targets (all stages if None) and the stages that they depend on.

    Raises UserError if the recipe, the data or an artifact is invalid, or if another process is working on this run.
    """
    recipe, rank = run.recipe, int(os.environ.get("RANK", "0"))
    skipped = recipe.skipped()
    wanted = targets or list(recipe.stages)
    names = recipe.needed_by([name for name in wanted if name not in skipped])
    if rank == 0:
        for name in (name for name in wanted if name in skipped):
            console.print(f"{name}: skipped: {skipped[name]}", style="yellow", highlight=False)
    states = list(run.states(names))
    to_do = [name for name, state, _ in states if state != "done"]
    try:
        check(recipe, to_do)
        if rank == 0:
            _check_space(run, states, console)
    except UserError:
        if rank > 0:  # rank 0 prints the error, but torchrun kills rank 0 as soon as this process exits
            time.sleep(3)
            raise SystemExit(2) from None
        raise
    make_directory(run.directory)
    # A stage that runs verifies its inputs, so only artifacts that no such stage reads are verified here.
    to_verify = {producer for name in to_do for producer in recipe.stages[name].inputs.values()}
    done: dict[str, Artifact] = {}
    result: list[Done] = []
    with locked(run.directory) if rank == 0 else _no_lock():
        for position, name in enumerate(names, 1):
            inputs = run.inputs(name, done)
            assert inputs is not None, f"{name} comes before its inputs"
            final, digest = run.final(name, inputs)
            title = f"[{position}/{len(names)}] {name}"
            skipped = is_finished(final)
            if skipped:
                done[name] = reuse(final, rank == 0 and name not in to_verify)
                if rank == 0:
                    console.print(f"{title}: finished earlier, skipped", style="dim", highlight=False)
            elif rank == 0:
                done[name] = work(run, name, inputs, final, digest, console, title)
            else:
                done[name] = follow(run, name, inputs, final)
            result.append(Done(name, done[name], skipped))
        if rank == 0:
            link_models(run, done)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from thinkling.train import parallel

        parallel.close()
    return result


def _check_space(run: Run, states: list[tuple[str, State, Path | None]], console: Console) -> None:
    """Raise UserError if the stages certainly need more space than is free, and warn if they may need more."""
    found = space.needed(run, states)
    space.refuse(found, run.recipe)
    if found.close:
        console.print(f"warning: {found.line()}", style="bold yellow", highlight=False, soft_wrap=True)


def reuse(final: Path, in_full: bool) -> Artifact:
    """Open a finished artifact.

    `in_full`: whether to verify the digest of every file, because a flipped bit does not change a file's size or time.
    """
    manifest = read_manifest(final)
    if in_full:
        verify(final, manifest)
    return Artifact(final, manifest)


def work(
    run: Run, name: str, inputs: dict[str, Artifact], final: Path, digest: str, console: Console, title: str
) -> Artifact:
    """Run one stage on rank 0, then rename its `.partial` directory to the final name."""
    partial = partial_of(final)
    resumed = partial.exists()
    console.print(f"{title}{': resumed' if resumed else ''}", style="bold", highlight=False)
    for artifact in inputs.values():
        if "recorded" in artifact.manifest:
            verify(artifact.path, artifact.manifest)
    if (partial / MANIFEST).is_file():  # the process was killed after the stage finished and before the rename
        return complete(partial, final)
    partial.mkdir(exist_ok=True)
    context = make_context(run, name, inputs, partial)
    context.progress = TerminalProgress(console)
    began = time.monotonic()
    with PeakMemory() as memory:
        start(run.recipe.stages[name], context)
    wall = time.monotonic() - began
    manifest = {
        "kind": run.recipe.stages[name].produces,
        "stage": name,
        "hash": digest,
        "resolved": run.resolved(name),
        "inputs": {role: {"artifact": a.path.name, "digest": a.digest} for role, a in inputs.items()},
        "counts": context.counts,
    }
    recorded = {"wall_seconds": round(wall, 2), "peak_rss_mb": round(memory.peak_mb, 1), "resumed": resumed}
    artifact = finish(partial, final, manifest, recorded)
    console.print(
        f"  {wall:.1f} s, peak memory {memory.peak_mb:.0f} MB → {final}", style="dim", highlight=False, soft_wrap=True
    )
    return artifact


def follow(run: Run, name: str, inputs: dict[str, Artifact], final: Path) -> Artifact:
    """Take part in a stage on a rank other than 0: run it if it is distributed, then wait for rank 0 to finish it.

    If rank 0 fails, torchrun stops the other ranks.
    """
    stage = run.recipe.stages[name]
    partial = partial_of(final)
    while not partial.exists() and not (final / MANIFEST).exists():
        time.sleep(0.1)
    if stage.distributed and not (partial / MANIFEST).exists() and not (final / MANIFEST).exists():
        start(stage, make_context(run, name, inputs, partial))
    while not (final / MANIFEST).exists():
        time.sleep(0.1)
    return Artifact(final, read_manifest(final))


def make_context(run: Run, name: str, inputs: dict[str, Artifact], partial: Path) -> StageContext:
    """Create the context that is passed to a stage."""
    recipe, stage = run.recipe, run.recipe.stages[name]
    return StageContext(
        name=name,
        directory=partial,
        inputs=inputs,
        seed=derive(recipe.seed, name),
        threads=recipe.threads,
        model=recipe.model if "model" in stage.uses else None,
        tokenizer=recipe.tokenizer if "tokenizer" in stage.uses else None,
        sources=recipe.sources_of(stage.source_names()),
        progress=Silent(),
        kept=run.directory,
        resolved=run.resolved(name),
        trackers=recipe.trackers,
    )


def start(stage: StageConfig, context: StageContext) -> None:
    """Call `run` of the stage's package. Only the import of that package loads torch and other heavy packages."""
    run = importlib.import_module(f"thinkling.stages.{stage.kind}.stage").run
    if stage.uses_torch:
        import torch

        torch.set_num_threads(context.threads)
    run(stage, context)
    if counts := context.ledger.counts():
        context.counts["sources"] = counts


def link_models(run: Run, done: dict[str, Artifact]) -> None:
    """Atomically point `base` at the last pretrain stage's model and `model` at the last training stage's model."""
    models = [(n, a) for n, a in done.items() if run.recipe.stages[n].produces == "model"]
    bases = [(n, a) for n, a in models if run.recipe.stages[n].kind == "pretrain"]
    for link, candidates in (("base", bases), ("model", models)):
        if candidates:
            target = os.path.relpath(candidates[-1][1].model_dir, run.directory)
            temporary = run.directory / f".{link}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.replace(run.directory / link)


def make_directory(directory: Path) -> None:
    """Create the run's folder. Raises UserError if the folder cannot be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".lock").touch()
    except OSError as error:
        raise UserError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); choose another folder with --runs"
        ) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a run, so that only one process at a time works on it.

    The kernel releases the lock when the process exits, even if it is killed. Raises UserError if another process has
    the lock.
    """
    with (directory / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{directory}: another process is working on this run; wait until it ends, or change the run's `name`"
            ) from error
        yield


@contextmanager
def _no_lock() -> Iterator[None]:
    yield
