"""Checks before a run starts. `run`, `plan` and `doctor` share these checks, so they report the same mistakes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from thinkling.errors import UserError
from thinkling.pipeline.chats import lost_in_templates, wrong_chats
from thinkling.pipeline.mistakes import nearest
from thinkling.pipeline.model_shape import model_of
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.training_memory import too_large
from thinkling.sandbox import packages
from thinkling.sandbox.kernel import missing_feature
from thinkling.sources.base import Source
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.training.config import PostTrainingConfig, TrainingConfig
from thinkling.stages.training.trackers import check_installed
from thinkling.verify import program


class Wrong(NamedTuple):
    """A mistake that would stop a run."""

    what: str
    """The name of the check in the output of `doctor`."""
    line: str
    """The error message: the field or file, the mistake and the cure."""


def check(recipe: Recipe, stages: Sequence[str]) -> None:
    """Raise UserError for the first mistake that affects the given stages, which should be the unfinished stages of a
    run."""
    for found in wrong(recipe, stages):
        raise UserError(found.line)


def wrong(recipe: Recipe, stages: Sequence[str]) -> Iterator[Wrong]:
    """Yield all mistakes that affect the given stages. Cheap checks run first."""
    wanted = [name for name in stages if name not in recipe.skipped()]
    yield from _extras(recipe, wanted)
    yield from _ranks(recipe, wanted)
    yield from _float8(recipe, wanted)
    yield from _told("tracker", lambda: check_installed(recipe.trackers))
    yield from _told("sandbox", lambda: packages.locations(recipe.packages()))
    program.verify.use(recipe.packages())  # whether tests are valid depends on the packages that they may import
    yield from _sandbox(recipe, wanted)
    models, missing = list(_models(recipe, wanted)), set[str]()
    for name, found in models:
        missing.add(name)
        yield found
    yield from _sources(recipe, wanted)
    yield from _mixtures(recipe, wanted)
    yield from _adapters(recipe, wanted)
    yield from _lengths(recipe, [name for name in wanted if recipe.stages[name].inputs.get("model") not in missing])
    with_models = [name for name in wanted if not missing.intersection(recipe.stages[name].inputs.values())]
    for line in too_large(recipe, with_models):
        yield Wrong("memory", line)
    for line in wrong_chats(recipe, with_models):
        yield Wrong("chat template", line)
    for line in lost_in_templates(recipe, with_models):
        yield Wrong("conversations", line)


def _told(what: str, look: Callable[[], object], where: str = "") -> Iterator[Wrong]:
    try:
        look()
    except UserError as error:
        yield Wrong(what, f"{where}{error}")


def _extras(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each stage or source that needs missing packages of an extra."""
    needed = [(f"stages.{name}", extra) for name in stages for extra in recipe.stages[name].extras()]
    names = [source for name in stages for source in recipe.stages[name].source_names()]
    needed += [(f"sources.{name}", extra) for name, s in recipe.sources_of(names).items() for extra in s.extras()]
    for where, extra in needed:
        absent = [package for package in extra.packages if importlib.util.find_spec(package) is None]
        if absent:
            yield Wrong(
                "extra",
                f"{where}.{extra.field}: needs {', '.join(absent)}; run pip install 'thinkling[{extra.extra}]'"
                + (f", or {extra.otherwise}" if extra.otherwise else ""),
            )


def _ranks(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each stage that cannot run on the number of processes started by torchrun."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    for name in stages:
        stage = recipe.stages[name]
        if isinstance(stage, TrainingConfig) and (reason := stage.parallel.mismatch(processes)):
            yield Wrong("processes", f"stages.{name}.{reason}")
        if processes > 1 and isinstance(stage, TrainingConfig) and stage.distributed and stage.optimizer.name == "muon":
            yield Wrong(
                "processes",
                f"stages.{name}.optimizer.name: muon needs whole matrices, but {processes} processes would shard them; "
                f"use --set stages.{name}.optimizer.name=adamw, or start the run without torchrun",
            )
        if isinstance(stage, SftConfig | DpdConfig) and stage.batch_size % processes:
            yield Wrong(
                "processes",
                f"stages.{name}.batch_size: {stage.batch_size} is not divisible by {processes} processes; "
                "change it to a multiple",
            )


def _float8(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each stage with `precision.float8` on a machine without a GPU for it."""
    configs = {name: stage for name in stages if isinstance(stage := recipe.stages[name], TrainingConfig)}
    wanting = [name for name, stage in configs.items() if stage.precision.float8 is not None]
    if not wanting or importlib.util.find_spec("torch") is None:
        return
    from thinkling.model.device import default_device
    from thinkling.train.float8 import missing_for_float8

    missing = missing_for_float8(default_device())
    if missing is not None:
        for name in wanting:
            line = f"stages.{name}.precision.float8: {missing}; use --set stages.{name}.precision.float8=null"
            yield Wrong("float8", line)


def _adapters(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each stage whose `lora.targets` the model lacks, if the model can be read."""
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, PostTrainingConfig) or stage.lora is None:
            continue
        model = model_of(recipe, name)
        if model is not None and (reason := stage.lora.mismatch(model)):
            yield Wrong("lora", f"stages.{name}.{reason}")


def _sandbox(recipe: Recipe, stages: Sequence[str]) -> Iterator[Wrong]:
    """Yield a mistake if stages would run model-written programs and this machine has no sandbox."""
    lacking = missing_feature()
    if lacking is None:
        return
    judging = recipe.judging()
    wanting = [name for name in stages if name in judging]
    if wanting:
        yield Wrong(
            "sandbox",
            f"{', '.join(wanting)}: running programs that a model wrote requires a sandbox, which this machine does "
            f"not support ({lacking}); to skip these stages and the stages that depend on them, set `sandbox: none` in "
            "the recipe",
        )


def _models(recipe: Recipe, stages: Iterable[str]) -> Iterator[tuple[str, Wrong]]:
    """Yield (source, mistake) for each of the user's models that a stage needs and that cannot be used."""
    inputs = [producer for name in stages for producer in recipe.stages[name].inputs.values()]
    for name in dict.fromkeys(inputs):
        source = recipe.sources.get(name)
        if source is not None and source.artifact_kind == "model":
            for found in _told(f"source {name}", lambda source=source: _model(source)):
                yield name, found


def _model(source: Source) -> None:
    from thinkling.data.tokenizer import Tokenizer
    from thinkling.model.huggingface import check_pretrained

    directory = source.artifact().model_dir
    try:
        check_pretrained(directory)
        Tokenizer.load(directory)
    except UserError as error:
        raise UserError(f"sources.{source.name}: {error}") from error


def _sources(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each source that cannot provide the data that a stage needs from it."""
    for name in stages:
        for need in recipe.stages[name].needs():
            source = recipe.sources[need.source]

            def look(source=source, need=need) -> None:
                source.check(need.offer, need.split, need.n, need.families)

            yield from _told(f"source {need.source}", look, f"stages.{name}.{need.field}: ")


def _mixtures(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each name in a mixture that no source provides."""
    for name in stages:
        stage = recipe.stages[name]
        if not isinstance(stage, PretrainConfig):
            continue
        tokenize = recipe.stages[stage.inputs["tokens"]]
        curate = recipe.stages[tokenize.inputs["documents"]]
        assert isinstance(curate, CurateConfig)
        known = {
            f"{q}-{one}" for q in ("hq", "mq") for s in curate.sources for one in recipe.sources[s].document_names()
        }
        for number, phase in enumerate(stage.phases):
            for wanted in sorted(phase.mixture.keys() - known):
                yield Wrong(
                    "mixture",
                    f"stages.{name}.phases.{number}.mixture: unknown name {wanted!r}{nearest(wanted, known)}; "
                    f"the names are {', '.join(sorted(known))}",
                )


def _lengths(recipe: Recipe, stages: Iterable[str]) -> Iterator[Wrong]:
    """Yield a mistake for each stage whose rows are longer than the user's model supports."""
    from thinkling.model.huggingface import read_config

    for name in stages:
        stage, source = recipe.stages[name], recipe.sources.get(recipe.stages[name].inputs.get("model", ""))
        if not isinstance(stage, SftConfig | DpdConfig) or source is None:
            continue
        longest = read_config(source.directory()).max_position_embeddings
        if stage.sequence_length > longest:
            yield Wrong(
                "sequence_length",
                f"stages.{name}.sequence_length: {stage.sequence_length} exceeds the model's "
                f"max_position_embeddings of {longest}; lower sequence_length",
            )
