"""Estimates of the disk space of a stage, with one formula per kind of stage (docs/training.md lists them).

Estimates are on the high side. The sizes of weights and training states follow from the parameter counts and are exact.
The sizes of text, tokens and logs are estimated from the sizes of the sources. The lengths of a model's replies are not
known in advance, so half of `max_new_tokens` is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkling.data.artifact import Artifact
from thinkling.model.config import ModelConfig
from thinkling.pipeline.recipe import Recipe
from thinkling.sources.base import Offer, Size
from thinkling.stages.base import StageConfig
from thinkling.stages.curate.config import CurateConfig
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.evaluate.config import EvaluateConfig
from thinkling.stages.pretrain.config import PretrainConfig
from thinkling.stages.pretrain.phases import resolve
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.training.config import EvaluatedConfig, PostTrainingConfig, TrainingConfig
from thinkling.tasks.problem import Split

CHECKPOINTS = 3
"""Training states on disk at the same time: the two that are kept and the one being written."""
BEST = 4
"""Copies of the weights on disk at the same time with `keep_best`: for each of the three checkpoints, the best weights
at that point, and the copy being written."""
ZSTD = 0.45
"""Bytes of Parquet per byte of text. zstd compresses code to a quarter of its size and web text to two fifths."""
FILLED = 0.5
"""Assumed length of a sample or reply as a fraction of `max_new_tokens`. This is a guess on the high side."""
TOKEN_OF_SAMPLE = 8.0
"""Compressed bytes of Parquet per sampled token, for its id, log-probability and text."""
CALL = 250.0
"""Bytes per model call in refine's log, in addition to the prompt and the reply."""
LOG_LINE = 400.0
"""Bytes of logs per optimizer step. rl logs twice as much."""
SMALL = 20_000.0
"""Bytes of a stage's small files, such as the manifest, configurations and spans."""
PARQUET = 5_000.0
"""Bytes of an empty Parquet file of samples."""
SAMPLES_PER_FILE = 128
LABELLER, WORDS = 300_000.0, 2**17
"""Bytes of a labeller without its vocabulary, and the maximum number of words in the vocabulary."""
EXCERPT = 12_000
"""Maximum number of bytes of a document that grading reads."""


@dataclass(frozen=True)
class Space:
    """Disk space of a stage in bytes."""

    kept: float
    """Bytes that remain after the stage has finished."""
    peak: float
    """Maximum number of bytes while the stage runs."""
    sure_kept: float = 0.0
    """The part of `kept` that is known exactly: weights and training states."""
    sure_peak: float = 0.0
    """The part of `peak` that is known exactly."""
    unknown: tuple[str, ...] = ()
    """Descriptions of the data whose size cannot be estimated."""


@dataclass(frozen=True)
class Model:
    """The properties of a model that determine the size of its files."""

    parameters: int
    in_layers: int
    """Number of parameters without embeddings. Muon stores one moment for each of these instead of two."""
    vocab_size: int
    tokenizer: float
    """Bytes of the tokenizer's files."""
    config: ModelConfig

    def weights(self, config: TrainingConfig) -> float:
        """Return the size of the exported weights, and of the adapters, in bytes."""
        return float(self.parameters * _width(config) + 4 * (self._adapters(config) or 0))

    def state(self, config: TrainingConfig) -> float:
        """Return the size of the trained weights and the optimizer state in bytes."""
        if (adapters := self._adapters(config)) is not None:
            return 3.0 * 4 * adapters
        moments = 2 * self.parameters - (self.in_layers if config.optimizer.name == "muon" else 0)
        return float((self.parameters + moments) * _width(config))

    def _adapters(self, config: TrainingConfig) -> int | None:
        """Return the number of parameters of the adapters, which are in fp32; None if all weights are trained."""
        lora = config.lora if isinstance(config, PostTrainingConfig) else None
        return None if lora is None else lora.parameter_count(self.config)


@dataclass(frozen=True)
class Tokens:
    """The size of a tokenizer."""

    vocab_size: int
    files: float
    """Bytes of the tokenizer's files."""


class Spaces:
    """Estimates for a recipe's stages.

    `of` must be called in the order of the stages, because each estimate depends on the outputs of earlier stages.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.made: dict[str, Size | Tokens | Model | None] = {}
        """Name of a stage or of a source of type model → the size of its output; None if the size is not known."""
        for name, source in recipe.sources.items():
            if source.artifact_kind == "model":
                self.made[name] = None
        self._sizes: dict[tuple[Any, ...], Size | None] = {}

    def finished(self, name: str, artifact: Artifact) -> None:
        """Set the output size of a finished stage from its artifact."""
        stage, path = self.recipe.stages[name], artifact.path
        if isinstance(stage, CurateConfig):
            self.made[name] = _documents(path / "documents.parquet")
        elif isinstance(stage, TokenizeConfig):
            self.made[name] = Tokens(artifact.counts["vocab_size"], size_of(path / "tokenizer"))
        elif isinstance(stage, RefineConfig):
            n = float(artifact.counts["kept"])
            self.made[name] = Size((path / "conversations.parquet").stat().st_size / ZSTD * 2, n)
        elif isinstance(stage, TrainingConfig):
            self.made[name] = _model_of(artifact.model_dir)

    def of(self, name: str) -> Space:
        """Estimate the space of a stage."""
        stage = self.recipe.stages[name]
        for producer in stage.inputs.values():
            if self.made.get(producer) is None and producer in self.recipe.sources:
                self.made[producer] = _model_of(self.recipe.sources[producer].directory())
        formulas: dict[type[StageConfig], Callable[[str, Any], Space]] = {
            CurateConfig: self._curate,
            TokenizeConfig: self._tokenize,
            PretrainConfig: self._pretrain,
            RefineConfig: self._refine,
            SftConfig: self._sft,
            DpdConfig: self._dpd,
            RlConfig: self._rl,
            EvaluateConfig: self._evaluate,
        }
        formula = formulas.get(type(stage))
        return formula(name, stage) if formula else Space(SMALL, SMALL, unknown=(f"stages.{name}",))

    def _curate(self, name: str, config: CurateConfig) -> Space:
        """Estimate a curate stage. Kept and rejected documents together contain all text. With grading, the pool
        contains the text a second time."""
        sizes = {source: self._size(source, "documents") for source in config.sources}
        unknown = tuple(f"documents of sources.{source}" for source, size in sizes.items() if size is None)
        known = [size for size in sizes.values() if size is not None]
        text, n = sum(size.bytes for size in known), sum(size.records for size in known)
        self.made[name] = None if unknown else Size(text, n)
        stored = text * ZSTD + 20 * n
        near = stored if config.near_dedup is not None else 0.0
        grading = config.grading
        if grading is None:
            return Space(SMALL + stored, SMALL + stored + near, unknown=unknown)
        read = min(text / max(n, 1), EXCERPT)
        words = min(WORDS, read * min(n, grading.fitted_on) / 100)
        labeller = LABELLER + words * (4 * grading.dimensions + 12)
        kept = 2 * (stored + labeller) + 60 * n + 3 * SMALL
        database = n * (1.2 * read + 4 * grading.dimensions)
        if not unknown and grading.mq_tokens is not None:
            sizes_of = grading.bytes_per_token
            per_token = max(sizes_of.values()) if isinstance(sizes_of, dict) else sizes_of
            budget = (grading.hq_tokens + grading.mq_tokens) * per_token
            self.made[name] = Size(min(text, budget), n)
        if grading.annotator != "rules":
            unknown += (f"replies of the annotator in stages.{name}",)
        return Space(kept, kept + near + database, unknown=unknown)

    def _tokenize(self, name: str, config: TokenizeConfig) -> Space:
        documents, tokenizer = self.made.get(config.inputs["documents"]), self.recipe.tokenizer
        assert tokenizer is not None
        if tokenizer.path is not None:
            from thinkling.data.tokenizer import Tokenizer

            found = Tokens(Tokenizer.load(tokenizer.path).vocab_size, size_of(tokenizer.path))
        else:
            assert tokenizer.vocab_size is not None
            found = Tokens(tokenizer.vocab_size, SMALL / 2 + 60.0 * tokenizer.vocab_size)
        self.made[name] = found
        if not isinstance(documents, Size):
            return Space(found.files, found.files, unknown=(f"tokens of stages.{name}",))
        tokens = documents.bytes / bytes_per_token(found.vocab_size) + documents.records
        size = SMALL + found.files + tokens * (2 if found.vocab_size <= 2**16 else 4) + 8 * documents.records
        return Space(size, size)

    def _pretrain(self, name: str, config: PretrainConfig) -> Space:
        given, tokens, model = self.made.get(config.inputs.get("model", "")), None, self.recipe.model
        if isinstance(given, Model):
            self.made[name] = given
        elif "state" in config.inputs:
            self.made[name] = self.made.get(config.inputs["state"])
        else:
            tokens = self.made.get(config.inputs["tokens"])
            assert model is not None
            self.made[name] = _model(model, tokens) if isinstance(tokens, Tokens) else None
        steps = sum(phase.steps for phase in resolve(config, 1.0))
        return self._training(name, config, steps, steps)

    def _sft(self, name: str, config: SftConfig) -> Space:
        model = self._enters(name, config)
        sizes = [self._size(e.source, "conversations", None, e.n_examples, e.families) for e in config.examples]
        named = zip(config.examples, sizes, strict=True)
        unknown = tuple(f"conversations of sources.{e.source}" for e, size in named if size is None)
        known = [size for size in sizes if size is not None]
        if (producer := config.inputs.get("conversations")) is not None:
            given = self.made.get(producer)
            known += [given] if isinstance(given, Size) else []
            unknown += () if isinstance(given, Size) else (f"conversations of stages.{producer}",)
        text, n = sum(size.bytes for size in known), sum(size.records for size in known)
        stored = text * ZSTD
        tokens = text / bytes_per_token(model.vocab_size if model else 2**16)
        # Packed rows are never completely full, but each contains at least one conversation.
        rows = min(n, 1.5 * tokens / config.sequence_length + 1)
        steps = math.ceil(config.epochs * rows / config.batch_size)
        steps = min(steps, config.max_steps or steps)
        space = self._training(name, config, steps if not unknown else None, steps, stored, 4 * tokens + 12 * n)
        return _and(space, unknown)

    def _dpd(self, name: str, config: DpdConfig) -> Space:
        self._enters(name, config)
        samples, unknown = 0.0, tuple[str, ...]()
        for wanted in config.problems:
            assert config.pairs is not None
            k = config.pairs.student_samples + config.pairs.teacher_samples
            n, prompt = self._problems(wanted.source, "train", wanted.n_problems, wanted.families)
            one = prompt + config.pairs.max_new_tokens * FILLED * TOKEN_OF_SAMPLE
            # A pair contains copies of two samples.
            samples += n * (k + 2 * config.pairs.pairs_per_problem) * one + 3 * _files(n)
        for wanted in config.preferences:
            size = self._size(wanted.source, "pairs", None, wanted.n_pairs)
            samples += 3 * size.bytes * ZSTD if size else 0.0
            unknown += () if size else (f"pairs of sources.{wanted.source}",)
        return _and(self._training(name, config, config.steps, config.steps, samples), unknown)

    def _rl(self, name: str, config: RlConfig) -> Space:
        self._enters(name, config)
        longest = config.max_new_tokens * FILLED * TOKEN_OF_SAMPLE
        band, prompts = 0.0, [0.0]
        for wanted in config.problems:
            n, prompt = self._problems(wanted.source, "train", wanted.n_problems, wanted.families)
            prompts.append(prompt)
            band += n * config.band.samples * (prompt + longest) + _files(n)
        # Assume that half of the groups are refilled once.
        samples = 1.5 * config.prompts_per_step * config.samples_per_prompt
        step = samples * (max(prompts) + longest) + (1 + config.max_refills) * PARQUET
        kept = math.ceil(config.steps / config.rollouts_every) * step + 100 * band / max(longest, 1)
        passing = max(band, min(config.steps, 2 * config.checkpoint_every) * step)
        updates = config.steps * config.updates_per_batch
        space = self._training(name, config, config.steps, 2 * updates, kept, passing)
        return _and(space, (f"replies of the judge in stages.{name}",) if config.judge is not None else ())

    def _evaluate(self, name: str, config: EvaluateConfig) -> Space:
        size = SMALL / 2
        for task_set in config.task_sets.values():
            n, prompt = self._problems(task_set.source, "heldout", None, None)
            size += n * config.k * (prompt + config.max_new_tokens * FILLED * TOKEN_OF_SAMPLE) + 2 * _files(n)
        return Space(size, size)

    def _refine(self, name: str, config: RefineConfig) -> Space:
        """Estimate a refine stage. Each job has a draft, a checklist, a chain of thought and, in each round, a critique
        and a revision."""
        problems = config.problems
        n, prompt = self._problems(problems.source, "train", problems.n_problems, problems.families)
        draft = max(backend.max_new_tokens for backend in config.drafters)
        chain, reviser = config.chain.max_new_tokens, config.reviser.max_new_tokens
        replies = draft + config.checklist.max_new_tokens + config.rounds * reviser + chain
        replies += (config.rounds + 1) * sum(backend.max_new_tokens for backend in config.evaluators)
        calls = 3 + config.rounds + (config.rounds + 1) * len(config.evaluators)
        replies, draft, reviser, chain = (FILLED * n_tokens for n_tokens in (replies, draft, reviser, chain))
        # A token is about 4 bytes. The prompt of each call includes a solution, and the final conversation contains a
        # solution with its reasoning.
        events = n * (calls * (CALL + prompt + 4 * max(draft, reviser)) + 4 * replies)
        conversations = n * (CALL + prompt + 4 * (max(draft, reviser) + chain))
        self.made[name] = Size(conversations, n)
        served = [field for field, backend in config.backends.items() if backend.input is None]
        unknown = (f"replies of served models in stages.{name}",) if served else ()
        size = SMALL + events + 2 * ZSTD * conversations
        return Space(size, size, unknown=unknown)

    def _training(
        self, name: str, config: TrainingConfig, steps: int | None, lines: int, kept: float = 0.0, passing: float = 0.0
    ) -> Space:
        """Estimate the weights, checkpoints, logs and evaluations of a training stage.

        `steps`: None if not known, in which case the maximum number of checkpoints is assumed. `lines`: number of log
        lines. `kept`: bytes of other files that remain after the stage. `passing`: bytes of other files that are
        deleted at its end.
        """
        model = self.made[name]
        if not isinstance(model, Model):
            return Space(0.0, 0.0, unknown=(f"weights and checkpoints of stages.{name}",))
        weights, state = model.weights(config), model.state(config)
        averaged = isinstance(config, PretrainConfig) and config.average is not None
        stored = state + (4.0 * model.parameters if averaged else 0.0)
        states = CHECKPOINTS if steps is None else min(CHECKPOINTS, math.ceil(steps / config.checkpoint_every))
        sure_kept = weights + (state if config.keep_state else 0.0)
        best, evaluations = 0, 0.0
        if isinstance(config, EvaluatedConfig) and config.evaluate_every is not None:
            best = BEST if config.keep_best else 0
            times = 2 + lines // config.evaluate_every
            for task_set in config.evaluation.task_sets.values() if config.evaluation else ():
                n, prompt = self._problems(task_set.source, "train", task_set.n_problems, task_set.families)
                assert config.evaluation is not None
                one = prompt + config.evaluation.max_new_tokens * FILLED * TOKEN_OF_SAMPLE
                evaluations += times * (n * config.evaluation.k * one + _files(n))
        # The exported model and the final state are written while two checkpoints are on disk.
        sure_peak = max(states * stored, min(states, 2) * stored + sure_kept) + min(best, 1) * weights
        small = SMALL + model.tokenizer + lines * LOG_LINE + kept + evaluations
        beside = max(best - 1, 0) * weights + small + passing + states * SMALL + model.tokenizer
        return Space(sure_kept + small, sure_peak + beside, sure_kept, sure_peak)

    def _enters(self, name: str, config: StageConfig) -> Model | None:
        """Return the model from which a stage starts; None if not known. The stage's output has the same size."""
        model = self.made.get(config.inputs["model"])
        self.made[name] = model if isinstance(model, Model) else None
        return model if isinstance(model, Model) else None

    def _size(
        self,
        source: str,
        offer: Offer,
        split: Split | None = None,
        n: int | None = None,
        families: Sequence[str] | None = None,
    ) -> Size | None:
        key = (source, offer, split, n, None if families is None else tuple(families))
        if key not in self._sizes:
            self._sizes[key] = self.recipe.sources[source].estimated_size(offer, split, n, families)
        return self._sizes[key]

    def _problems(
        self, source: str, split: Split, n: int | None, families: Sequence[str] | None
    ) -> tuple[float, float]:
        """Return the number of problems and the bytes per sample without its completion."""
        size = self._size(source, "problems", split, n, families)
        assert size is not None
        return size.records, 50 + ZSTD * size.bytes / max(size.records, 1)


def _width(config: TrainingConfig) -> int:
    """Return the bytes per element of the weights and the optimizer state."""
    return 2 if config.precision.weights == "bfloat16" else 4


def bytes_per_token(vocab_size: int) -> float:
    """Estimate the bytes of UTF-8 per token, on the low side: 1.6 for a vocabulary of 265 tokens, 3 for 33K tokens or
    more (with such a vocabulary, English text has about 4)."""
    return min(3.0, math.log2(vocab_size) / 5)


def _files(problems: float) -> float:
    """Return the bytes of the Parquet files in which samples are stored, without the samples themselves."""
    return PARQUET * math.ceil(problems / SAMPLES_PER_FILE)


def _and(space: Space, unknown: tuple[str, ...]) -> Space:
    return Space(space.kept, space.peak, space.sure_kept, space.sure_peak, space.unknown + unknown)


def _model(config: ModelConfig, tokens: Tokens) -> Model:
    config = config if config.vocab_size else config.model_copy(update={"vocab_size": tokens.vocab_size})
    return Model(
        config.parameter_count(), config.non_embedding_parameter_count(), config.known_vocab_size, tokens.files, config
    )


def _model_of(directory: Path) -> Model:
    from thinkling.model.huggingface import read_config

    files = sum(p.stat().st_size for p in directory.iterdir() if p.suffix in (".json", ".jinja", ".txt", ".model"))
    config = read_config(directory)
    return _model(config, Tokens(config.known_vocab_size, float(files)))


def _documents(path: Path) -> Size:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(j) for group in groups for j in range(metadata.num_columns)]
    text = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == "text")
    return Size(float(text), float(metadata.num_rows))


def size_of(directory: Path) -> float:
    """Return the total size of the files in a directory in bytes."""
    return float(sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file()))
