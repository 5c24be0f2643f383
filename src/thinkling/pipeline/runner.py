"""Runs a recipe stage by stage, each into an artifact. Finished stages are skipped, interrupted ones resumed."""

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
    """A finished stage of a run; `skipped` if an earlier run had finished it."""

    name: str
    artifact: Artifact
    skipped: bool


class Run:
    """A recipe and its folder. Looking up what is done changes nothing on disk."""

    def __init__(self, recipe: Recipe, root: Path) -> None:
        """`root` is the folder that holds all runs.

        Raises UserError if the recipe can only be planned.
        """
        if recipe.plan_only:
            raise UserError(
                f"{recipe.name}: a recipe with `plan_only: true` can be planned, not run: thinkling plan RECIPE"
            )
        self.recipe = recipe
        self.directory = root / recipe.name
        self._raw: dict[str, str] = {}

    def resolved(self, name: str) -> dict[str, Any]:
        """Everything that a stage's result depends on except its inputs. It is hashed and written to the manifest."""
        stage = self.recipe.stages[name]
        sources = self.recipe.sources_of(stage.source_names())
        return {
            "stage": stage.model_dump(mode="json"),
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
        """Path of a stage's artifact, given its inputs, and the full hash."""
        digest = hash_of({**self.resolved(name), "inputs": {role: a.digest for role, a in inputs.items()}})
        return self.directory / f"{name}-{digest[:8]}", digest

    def inputs(self, name: str, done: dict[str, Artifact]) -> dict[str, Artifact] | None:
        """The stage's inputs, or None if one of them does not exist yet.

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
        """Stages with their states: all of them, or `names`, which must include what they depend on."""
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
        """Finished artifacts by stage: of all stages, or of `names` as in `states`."""
        return {
            name: Artifact(path, read_manifest(path))
            for name, state, path in self.states(names)
            if path and state == "done"
        }


def partial_of(final: Path) -> Path:
    """The directory of a stage while it runs."""
    return final.with_name(final.name + ".partial")


def execute(run: Run, console: Console, targets: list[str] | None = None) -> list[Done]:
    """Runs the targets (all stages if None) and what they depend on.

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
        if rank > 0:  # rank 0 prints the error; torchrun would kill it as soon as this process ends
            time.sleep(3)
            raise SystemExit(2) from None
        raise
    make_directory(run.directory)
    # Stages verify their inputs, so only artifacts that no stage takes as input are verified here.
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
                    console.print(f"{title}: done before, skipped", style="dim", highlight=False)
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
    """Raises UserError if the disk surely has too little space for the stages; warns if it may have too little."""
    found = space.needed(run, states)
    space.refuse(found, run.recipe)
    if found.close:
        console.print(f"warning: {found.line()}", style="bold yellow", highlight=False, soft_wrap=True)


def reuse(final: Path, in_full: bool) -> Artifact:
    """A finished artifact. If `in_full`, every file is digested again: sizes and times do not reveal a flipped bit."""
    manifest = read_manifest(final)
    if in_full:
        verify(final, manifest)
    return Artifact(final, manifest)


def work(
    run: Run, name: str, inputs: dict[str, Artifact], final: Path, digest: str, console: Console, title: str
) -> Artifact:
    """Runs one stage on rank 0, then renames its directory."""
    partial = partial_of(final)
    resumed = partial.exists()
    console.print(f"{title}{': resumed' if resumed else ''}", style="bold", highlight=False)
    for artifact in inputs.values():
        if "recorded" in artifact.manifest:
            verify(artifact.path, artifact.manifest)
    if (partial / MANIFEST).is_file():  # killed after the stage had finished, before its directory was renamed
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
        f"  {wall:.1f} s, {memory.peak_mb:.0f} MB at most → {final}", style="dim", highlight=False, soft_wrap=True
    )
    return artifact


def follow(run: Run, name: str, inputs: dict[str, Artifact], final: Path) -> Artifact:
    """What other ranks do: take part in distributed stages, and wait for rank 0 to finish each stage.

    If rank 0 fails, torchrun stops the others.
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
    """The context passed to a stage."""
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
    """Calls `run` of the stage's package, which loads torch and other heavy packages."""
    run = importlib.import_module(f"thinkling.stages.{stage.kind}.stage").run
    if stage.uses_torch:
        import torch

        torch.set_num_threads(context.threads)
    run(stage, context)
    if counts := context.ledger.counts():
        context.counts["sources"] = counts


def link_models(run: Run, done: dict[str, Artifact]) -> None:
    """Points `base` at the last pre-trained model and `model` at the last model of all, atomically."""
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
    """Creates the run's folder and checks that it can be written. Raises UserError if not."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".lock").touch()
    except OSError as error:
        raise UserError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); choose another folder by --runs"
        ) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One process per run: a lock that the kernel releases when the process ends, however it ends.

    Raises UserError if another process holds it.
    """
    with (directory / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{directory}: another process is working on this run; wait for it, or give this one a `name`"
            ) from error
        yield


@contextmanager
def _no_lock() -> Iterator[None]:
    yield
