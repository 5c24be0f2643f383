"""Disk space that one stage takes: a formula per kind, as docs/training.md lists them.

Estimates are rather too high than too low. Weights and training states follow from the parameters and are exact; text,
tokens and logs follow from the sizes of the sources. The length of a model's answers is not known: half of their limit
is counted.
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
from thinkling.stages.refine.config import RefineConfig
from thinkling.stages.rl.config import RlConfig
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.tokenize.config import TokenizeConfig
from thinkling.stages.training.config import EvaluatedConfig, TrainingConfig
from thinkling.tasks.problem import Split

CHECKPOINTS = 3
"""Training states on the disk at once: two that are kept, and the one that is being written."""
BEST = 4
"""With `keep_best`, copies of the weights at once: the best ones as of each checkpoint, and the one being written."""
ZSTD = 0.45
"""Bytes of Parquet per byte of text: zstd leaves a quarter of code and two fifths of web text."""
FILLED = 0.5
"""Length of a sample or reply as a fraction of `max_new_tokens`, which bounds it: a guess, rather too large."""
TOKEN_OF_SAMPLE = 8.0
"""Bytes of Parquet per sampled token: its id, log-probability and text, compressed."""
CALL = 250.0
"""Bytes of a question to a model in refine's log, besides prompt and reply."""
LOG_LINE = 400.0
"""Bytes of logs per optimizer step; of rl, which logs more, twice."""
SMALL = 20_000.0
"""Bytes of a stage's small files: manifest, configurations, spans."""
PARQUET = 5_000.0
"""Bytes of a Parquet file of samples without any."""
SAMPLES_PER_FILE = 128
LABELLER, WORDS = 300_000.0, 2**17
"""Bytes of a labeller without words, and the words that it knows at most."""
EXCERPT = 12_000
"""Bytes of a document that grading reads at most."""


@dataclass(frozen=True)
class Space:
    """Bytes on the disk."""

    kept: float
    """What stays when the stage has finished."""
    peak: float
    """Largest total while it works."""
    sure_kept: float = 0.0
    """The part of `kept` that is known exactly: weights and training states."""
    sure_peak: float = 0.0
    """The part of `peak` that is known exactly."""
    unknown: tuple[str, ...] = ()
    """What is not counted, since nothing says how large it is."""


@dataclass(frozen=True)
class Model:
    """What decides the size of a model's files."""

    parameters: int
    in_layers: int
    """Of these the ones in the layers, which Muon trains with one moment instead of two."""
    vocab_size: int
    tokenizer: float
    """Bytes of the tokenizer's files."""

    def weights(self, config: TrainingConfig) -> float:
        """Bytes of the exported weights."""
        return float(self.parameters * _width(config))

    def state(self, config: TrainingConfig) -> float:
        """Bytes of weights and optimizer state."""
        moments = 2 * self.parameters - (self.in_layers if config.optimizer.name == "muon" else 0)
        return float((self.parameters + moments) * _width(config))


@dataclass(frozen=True)
class Tokens:
    """A tokenizer."""

    vocab_size: int
    files: float
    """Bytes of its files."""


class Spaces:
    """Space of a recipe's stages. Ask for them in the recipe's order: each depends on what earlier stages produce."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.made: dict[str, Size | Tokens | Model | None] = {}
        """Stage, or source of type model → what it makes; None where that is not known."""
        for name, source in recipe.sources.items():
            if source.artifact_kind == "model":
                self.made[name] = None
        self._sizes: dict[tuple[Any, ...], Size | None] = {}

    def finished(self, name: str, artifact: Artifact) -> None:
        """Takes what a stage makes from its artifact."""
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
        """The space that a stage takes."""
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
        """Kept and rejected documents together hold all text; with grading, the pool holds it once more."""
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
        steps = sum(max(1, round(phase.tokens / config.batch_tokens)) for phase in config.phases)
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
        # Packed rows are never full; none holds less than one conversation.
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
            # A pair holds two of the samples again.
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
        # Half of the groups are refilled once.
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
        """A job is drafted, given a checklist, criticised and revised in every round, and its chain completed."""
        problems = config.problems
        n, prompt = self._problems(problems.source, "train", problems.n_problems, problems.families)
        draft = max(backend.max_new_tokens for backend in config.drafters)
        chain, reviser = config.chain.max_new_tokens, config.reviser.max_new_tokens
        replies = draft + config.checklist.max_new_tokens + config.rounds * reviser + chain
        replies += (config.rounds + 1) * sum(backend.max_new_tokens for backend in config.evaluators)
        calls = 3 + config.rounds + (config.rounds + 1) * len(config.evaluators)
        replies, draft, reviser, chain = (FILLED * n_tokens for n_tokens in (replies, draft, reviser, chain))
        # A token is about 4 bytes; a solution is asked about in each round, and kept with its reasoning at the end.
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
        """`steps`: None if not known, and then many; `lines`: of logs; `kept`, `passing`: what else is written, which
        stays or is deleted at the end."""
        model = self.made[name]
        if not isinstance(model, Model):
            return Space(0.0, 0.0, unknown=(f"weights and checkpoints of stages.{name}",))
        weights, state = model.weights(config), model.state(config)
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
        # The exported model and the state that is kept are written while two checkpoints are there.
        sure_peak = max(states * state, min(states, 2) * state + sure_kept) + min(best, 1) * weights
        small = SMALL + model.tokenizer + lines * LOG_LINE + kept + evaluations
        beside = max(best - 1, 0) * weights + small + passing + states * SMALL + model.tokenizer
        return Space(sure_kept + small, sure_peak + beside, sure_kept, sure_peak)

    def _enters(self, name: str, config: StageConfig) -> Model | None:
        """The model that a stage starts from, which is also the size of the one that it makes."""
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
        """(Problems, bytes that a sample of one takes besides the completion.)"""
        size = self._size(source, "problems", split, n, families)
        assert size is not None
        return size.records, 50 + ZSTD * size.bytes / max(size.records, 1)


def _width(config: TrainingConfig) -> int:
    """Bytes per number of weights and optimizer state."""
    return 2 if config.precision.weights == "bfloat16" else 4


def bytes_per_token(vocab_size: int) -> float:
    """Bytes of UTF-8 per token, rather too few: 1.6 with 265 tokens, 3 from 33K on, where English has 4."""
    return min(3.0, math.log2(vocab_size) / 5)


def _files(problems: float) -> float:
    """Bytes of the files that samples are in, without the samples."""
    return PARQUET * math.ceil(problems / SAMPLES_PER_FILE)


def _and(space: Space, unknown: tuple[str, ...]) -> Space:
    return Space(space.kept, space.peak, space.sure_kept, space.sure_peak, space.unknown + unknown)


def _model(config: ModelConfig, tokens: Tokens) -> Model:
    config = config if config.vocab_size else config.model_copy(update={"vocab_size": tokens.vocab_size})
    return Model(
        config.parameter_count(), config.non_embedding_parameter_count(), config.known_vocab_size, tokens.files
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
    """Bytes of the files in a directory."""
    return float(sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file()))
