"""Grade a pool of documents and split it by token budget into HQ, MQ and rejected documents.

The labeller's features are computed from a document's text alone. The document's source, and the ground truth that the
source provides, are only used to choose the training examples and the seeds, and to annotate the examples.

Shapes: N documents, T tags, C columns of the quality value, K dimensions of the LSA.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinkling.errors import UserError
from thinkling.progress import Progress, tracked
from thinkling.quality.annotator import Annotator
from thinkling.quality.config import GradingConfig
from thinkling.quality.features import FeatureSpace, Floats
from thinkling.quality.labeller import Agreement, Doubles, Labeller
from thinkling.quality.pool import Pool, spread
from thinkling.quality.retrieval import Retriever, Seed, scaled, similarity, telling_terms
from thinkling.quality.rules import RuleAnnotator
from thinkling.quality.surface import excerpt
from thinkling.quality.tags import NAMES
from thinkling.quality.training_examples import Examples, annotate, sound_rows
from thinkling.quality.value import QualityModel, by_budget, columns, explanation, importance

Grades = npt.NDArray[np.int8]

_KNOWN_FROM = 3
"""Minimum number of documents that contain a word for the word to count as spelt correctly."""
_CANDIDATES = 4
"""Number of documents considered per requested seed. More than one document is needed because not every document is
sound."""
_PROBES, _PROBE_NEIGHBOURS = 20, 10


@dataclass(frozen=True)
class Learned:
    """The labeller and its training examples. There are no examples if the labeller was loaded from an earlier run."""

    labeller: Labeller
    examples: Examples
    unseen_MT: Grades
    """Grades of the examples, predicted by heads that were not trained on the texts of these examples."""
    held_out: dict[str, dict[str, Agreement]]


@dataclass(frozen=True)
class _Signal:
    """The data for fitting the weights of the quality value: M positive and negative documents with sample weights."""

    columns_MC: Doubles
    good_M: npt.NDArray[np.bool_]
    weights_M: Doubles


@dataclass(frozen=True)
class Graded:
    """The result of grading, with one row per document of the pool."""

    grades_NT: Grades
    similarity_N: Floats
    columns_NC: Doubles
    model: QualityModel
    values_N: Doubles
    labels: list[str]
    """`hq`, `mq`, or the reason why the document is rejected."""

    def explain(self, row: int) -> str:
        """Return the quality value of a document and its largest terms, as text."""
        contributions_NC = self.model.contributions(self.columns_NC[row : row + 1])
        return f"value {self.values_N[row]:.2f}: {explanation(contributions_NC[0], self.columns_NC[row])}"


@dataclass(frozen=True)
class Measured:
    """All measurements of a pool that do not depend on budgets, minimum grades and weights."""

    grades_NT: Grades
    similarity_N: Floats
    unseen_MT: Grades
    """Grades of the examples, predicted by heads that were not trained on the texts of these examples."""
    seeds: list[int]
    rows: list[int]
    """The pool row of each example's document."""
    kinds: list[str]
    """The kind of damage of each example; empty for a sound example."""
    report: dict[str, Any]


def grade_pool(
    pool: Pool, config: GradingConfig, annotator: Annotator | None, work: Path, seed: int, progress: Progress
) -> tuple[Graded, Learned, dict[str, Any]]:
    """Grade and split a pool. Returns the grades, the labeller and the contents of grading.json.

    `annotator`: None for the built-in rules. `work`: directory for the LanceDB database, which is not removed.

    Raises UserError if the pool is too small for a labeller or has no seed, or if an optional dependency is not
    installed.
    """
    measured, learned = measure_pool(pool, config, annotator, work, seed, progress)
    graded, report = split_pool(pool, config, measured, seed)
    return graded, learned, report


def measure_pool(
    pool: Pool, config: GradingConfig, annotator: Annotator | None, work: Path, seed: int, progress: Progress
) -> tuple[Measured, Learned]:
    """Run the first half of `grade_pool`: annotation, labeller, grades and similarity. Raises the same UserErrors."""
    seeds = _choose_seeds(pool, config)
    learned = _learn(pool, config, annotator, seed, progress) if config.labeller is None else _loaded(config.labeller)
    retriever = Retriever(work)
    grades_NT, queries = _grade_all(pool, learned.labeller, retriever, seeds, progress)
    similarity_N = _similarity(retriever, queries, config.neighbours, progress)
    probes_NK = np.array([query.vector_K for query in queries[:_PROBES]])
    report = {
        "examples": len(learned.examples.examples),
        "held_out_agreement": {
            kind: {name: asdict(found) for name, found in tags.items()} for kind, tags in learned.held_out.items()
        },
        "retrieval": {
            "seeds": len(seeds),
            "exact": retriever.exact,
            "recall": retriever.recall_probe(probes_NK, min(_PROBE_NEIGHBOURS, len(pool))),
        },
    }
    examples = learned.examples
    measured = Measured(grades_NT, similarity_N, learned.unseen_MT, list(seeds), examples.rows, examples.kinds, report)
    return measured, learned


def split_pool(pool: Pool, config: GradingConfig, measured: Measured, seed: int) -> tuple[Graded, dict[str, Any]]:
    """Run the second half of `grade_pool`: quality value and split. This half reads no texts.

    Raises UserError if every document is a seed.
    """
    columns_NC = columns(measured.grades_NT, measured.similarity_N)
    tokens_N = _tokens(pool, config)
    signal = _signal(columns_NC, tokens_N, measured)
    model = (
        QualityModel.fit(signal.columns_MC, signal.good_M, config.penalty, signal.weights_M).centred(columns_NC)
        if config.weights is None
        else QualityModel.given(columns_NC, config.weights)
    )
    values_N = model.values(columns_NC)
    labels = _label(config, measured.grades_NT, values_N, tokens_N)
    graded = Graded(measured.grades_NT, measured.similarity_N, columns_NC, model, values_N, labels)
    importances = importance(model, signal.columns_MC, signal.good_M, signal.weights_M, seed)
    report = {
        **measured.report,
        "quality": model.as_dict() | {"importance": importances},
        "split": _split(pool, labels, tokens_N),
    }
    return graded, report


def _choose_seeds(pool: Pool, config: GradingConfig) -> dict[int, str]:
    """Choose the seeds and return a mapping from each seed's row to its search terms. Raises UserError if no document
    of a source is suitable as a seed."""
    order = pool.by_hash("seeds")
    chosen: dict[int, str] = {}
    for name, wanted in config.seeds.items():
        candidates = order.get(name, [])[: wanted * _CANDIDATES]
        texts = pool.texts(candidates)
        sound = set(sound_rows(pool, texts))
        rows = [row for row in candidates if row in sound][:wanted]
        if not rows:
            raise UserError(
                f"grading.seeds.{name}: none of the source's documents is suitable as a seed; use a different source"
            )
        chosen |= {row: telling_terms(excerpt(texts[row]), pool.frequencies, len(pool)) for row in rows}
    return dict(sorted(chosen.items()))


def _loaded(directory: Path) -> Learned:
    """Load the labeller of an earlier run. Raises UserError if the directory does not contain a labeller."""
    none = Examples([], [], [], [])
    return Learned(Labeller.load(directory), none, np.empty((0, len(NAMES)), np.int8), {})


def _learn(pool: Pool, config: GradingConfig, annotator: Annotator | None, seed: int, progress: Progress) -> Learned:
    """Fit the labeller, and evaluate it by holding out each kind of damage in turn."""
    order, wanted = pool.by_hash("annotated"), config.annotated
    if isinstance(wanted, int):
        chosen = spread(order, wanted)
    else:
        chosen = sorted(row for name, n in wanted.items() for row in order.get(name, [])[:n])
    fitted_on = pool.texts(spread({"all": _shuffled(len(pool), seed)}, config.fitted_on))
    if annotator is None:
        annotator = RuleAnnotator({word for word, n in pool.frequencies.items() if n >= _KNOWN_FROM})
    texts = tracked(fitted_on.values(), progress, "labeller, features", len(fitted_on), "documents")
    space = FeatureSpace.fit(texts, config.dimensions, seed)
    examples = annotate(pool, pool.texts(chosen), annotator, seed, progress)
    with progress.track("labeller, fit", len(examples.rows), "examples") as task:
        annotated = examples.in_numbers(space)
        heads = annotated.fit(np.ones(len(examples.rows), np.bool_), config.ridge)
        unseen = annotated.unseen_grades(config.ridge)
        held_out = annotated.held_out_agreement(config.ridge)
        task.advance(len(examples.rows))
    return Learned(Labeller(space, heads), examples, unseen, held_out)


def _shuffled(n: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(n).tolist()


def _grade_all(
    pool: Pool, labeller: Labeller, retriever: Retriever, seeds: dict[int, str], progress: Progress
) -> tuple[Grades, list[Seed]]:
    """Grade every document and add it to the database. Returns the grades and the seeds as queries."""
    graded, queries = [], []
    with progress.track("grade", len(pool), "documents") as task:
        row = 0
        for batch in pool.batches():
            texts = [document["text"] for document in batch]
            features = labeller.space.features(texts)
            graded.append(labeller.grade(features))
            retriever.add([excerpt(text) for text in texts], features.embedding_NK)
            for place in range(len(batch)):
                if row + place in seeds:
                    queries.append(Seed(seeds[row + place], features.embedding_NK[place], row + place))
            row += len(batch)
            task.advance(len(batch))
    return np.concatenate(graded), queries


def _similarity(retriever: Retriever, queries: list[Seed], neighbours: int, progress: Progress) -> Floats:
    progress.note(f"retrieve: building the search index of {retriever.n_rows:,} documents")
    retriever.build()
    total = np.zeros(retriever.n_rows)
    with progress.track("retrieve", len(queries), "seeds") as task:
        for one in similarity(retriever, queries, neighbours):
            total += one
            task.advance()
    return scaled(total, len(queries))


def _tokens(pool: Pool, config: GradingConfig) -> npt.NDArray[np.int64]:
    """Estimate the number of tokens of each document."""
    sizes = config.bytes_per_token
    per_token_N = np.array([sizes[name] for name in pool.names()]) if isinstance(sizes, dict) else sizes
    return np.ceil(pool.bytes_N / per_token_N).astype(np.int64)


def _signal(columns_NC: Doubles, tokens_N: npt.NDArray[np.int64], measured: Measured) -> _Signal:
    """Return the data for fitting the weights. Seeds are positive, with a total weight of 1/2. The rest of the pool
    (1/4, weighted by tokens, like the budgets) and the damaged examples (1/4) are negative. Without damaged examples,
    the rest of the pool has weight 1/2.

    A damaged example has the grades of heads that were not trained on its text, and the similarity of its original
    document, so that the example and the original differ only by the damage.

    Raises UserError if every document is a seed.
    """
    is_seed_N = np.isin(np.arange(len(columns_NC)), measured.seeds)
    if is_seed_N.all():
        raise UserError("grading.seeds: all documents of the pool are seeds; use fewer seeds or different sources")
    damaged = [place for place, kind in enumerate(measured.kinds) if kind]
    rows = [measured.rows[place] for place in damaged]
    damaged_DC = columns(measured.unseen_MT[damaged], columns_NC[rows, -1])
    others = tokens_N * ~is_seed_N
    part = 1 / 4 if damaged else 1 / 2
    weights_N = np.where(is_seed_N, 1 / (2 * len(measured.seeds)), others * (part / others.sum()))
    return _Signal(
        np.vstack([columns_NC, damaged_DC]),
        np.append(is_seed_N, np.zeros(len(damaged), np.bool_)),
        np.append(weights_N, np.full(len(damaged), part / max(len(damaged), 1))),
    )


def _reaches(grades_NT: Grades, least: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Whether each document meets all minimum grades."""
    reached_N = np.ones(len(grades_NT), np.bool_)
    for name, grade in least.items():
        reached_N &= grades_NT[:, NAMES.index(name)] >= grade
    return reached_N


def _label(config: GradingConfig, grades_NT: Grades, values_N: Doubles, tokens_N: npt.NDArray[np.int64]) -> list[str]:
    passes_N = _reaches(grades_NT, config.minimum)
    labels = by_budget(values_N, tokens_N, config.hq_tokens, config.mq_tokens, passes_N)
    for row in np.flatnonzero(~passes_N):
        low = next(name for name, g in config.minimum.items() if grades_NT[row, NAMES.index(name)] < g)
        labels[row] = f"low {low}"
    return labels


def _split(pool: Pool, labels: list[str], tokens_N: npt.NDArray[np.int64]) -> dict[str, dict[str, dict[str, int]]]:
    """Return, for each source and outcome, the number of documents and of estimated tokens. Documents that a source
    emits under a separate name, such as noisy ones, are counted under that name. These counts are a check on the
    grades, because the grades do not depend on the name."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for source, label, tokens in zip(pool.sources, labels, tokens_N.tolist(), strict=True):
        cell = found.setdefault(source, {}).setdefault(label, {"documents": 0, "tokens": 0})
        cell["documents"] += 1
        cell["tokens"] += tokens
    return {source: dict(sorted(found[source].items())) for source in sorted(found)}
