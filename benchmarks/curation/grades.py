"""The labeller on unseen kinds of damage, and how well grades and quality value separate labelled web pages.

``dclm_labelled.jsonl`` does not document which label is the good one. Two rankings that use no labels decide: a
classifier of encyclopaedia and book against machine logs and spam, and the fraction of grammar words. Both rank pages
labelled 1 above the others (`direction` in the details), and reading a sample agrees.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.curation.planted import corpora, jsonl
from thinkling.data.documents import write_documents
from thinkling.puzzles.sources import PuzzlePagesSource, PuzzlesSource
from thinkling.quality.annotator import Example
from thinkling.quality.features import FeatureSpace
from thinkling.quality.labeller import Heads, Labeller, as_array
from thinkling.quality.pool import Origin, Pool, spread
from thinkling.quality.retrieval import Retriever, Seed, scaled, similarity, telling_terms, terms_of
from thinkling.quality.rules import RuleAnnotator
from thinkling.quality.surface import NAMES as STATISTICS
from thinkling.quality.surface import measure
from thinkling.quality.tags import NAMES
from thinkling.quality.training_examples import annotate
from thinkling.quality.value import QualityModel, auc, balance, columns, importance
from thinkling.sources.base import Source, bound
from thinkling.sources.python_stdlib import StdlibSource
from thinkling.stats import student_quantile, t_interval

GRADES, VALUE, WORDS = "curation.auc-grades", "curation.auc-value", "curation.auc-words"
SEEDS, ANNOTATED, DIMENSIONS, RIDGE, PENALTY, NEIGHBOURS = 5, 2000, 128, 0.3, 0.02, 100
FAMILIES: dict[str, dict[str, Any]] = {name: {} for name in ("sum", "mod", "sort", "reverse", "maximum", "calc")}
SOURCES: dict[str, Source] = bound(
    {
        "code": StdlibSource(type="python_stdlib", part="code"),
        "docstrings": StdlibSource(type="python_stdlib", part="docstrings"),
        "topics": StdlibSource(type="python_stdlib", part="topics"),
        "puzzles": PuzzlesSource(type="puzzles", families=FAMILIES),
        "pages": PuzzlePagesSource(type="puzzle_pages", puzzles="puzzles", pages_per_family=500, noise_fraction=0.25),
    }
)


def kappa() -> dict[str, dict[str, Any]]:
    """curation.labeller-kappa over the sources of tiny.yaml. Each kind of damage is held out in turn, together with
    a third of the texts in every form; one run per seed, with different examples and damage."""
    with tempfile.TemporaryDirectory() as folder:
        pool = _pool(Path(folder) / "pool.parquet")
        runs = [_agreement(pool, seed) for seed in range(SEEDS)]
    means = [statistics.mean(v["kappa"] for v in run["all"].values() if v["kappa"] is not None) for run in runs]
    tags = [{"tag": name} | _mean_of([run["all"].get(name) for run in runs]) for name in NAMES]
    kinds = {
        kind: statistics.mean(v["kappa"] for run in runs for v in run[kind].values() if v["kappa"] is not None)
        for kind in runs[0]
    }
    for tag in tags:
        print(f"{tag['tag']:15s} kappa {tag['kappa']}  MAE {tag['mae']}")
    print(f"mean kappa by seed {means}; by kind held out {kinds}")
    mean, low, high = t_interval(means)
    value = {"value": mean, "low": low, "high": high, "n": SEEDS, "runs": tags, "unit": "kappa"}
    return {"curation.labeller-kappa": value | {"by_kind": kinds, "by_seed": means}}


def _pool(path: Path) -> Pool:
    streams = [stream for name in SOURCES if name != "puzzles" for stream in SOURCES[name].documents("mq", 0)]

    def documents() -> Iterator[dict[str, Any]]:
        for stream in streams:
            for record in (record for piece in stream.pieces for record in piece if not record.error):
                if str(record.fields["text"]).strip():
                    known = {"source": stream.source, "quality": "mq", "markup": stream.markup}
                    yield {"id": f"{stream.source}/{record.fields['id']}", "text": record.fields["text"]} | known

    write_documents(path, documents())
    return Pool.survey(path, {s.source: Origin(s.name, s.matter, s.truths) for s in streams})


def _agreement(pool: Pool, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    texts = pool.texts(spread(pool.by_hash(f"kappa {seed}"), ANNOTATED))
    space = FeatureSpace.fit(pool.texts(rng.permutation(len(pool))[:6000].tolist()).values(), DIMENSIONS, seed)
    rules = RuleAnnotator({word for word, n in pool.frequencies.items() if n >= 3})
    found = annotate(pool, texts, rules, seed).in_numbers(space).held_out_agreement(RIDGE)
    return {kind: {name: vars(one) for name, one in tags.items()} for kind, tags in found.items()}


def _mean_of(found: list[dict[str, Any] | None]) -> dict[str, Any]:
    known = [one for one in found if one is not None and one["kappa"] is not None]
    if not known:
        return {"kappa": None, "mae": None, "n": 0}
    return {
        "kappa": round(statistics.mean(one["kappa"] for one in known), 3),
        "mae": round(statistics.mean(one["mae"] for one in known), 3),
        "n": sum(one["n"] for one in known),
    }


def web(folder: Path) -> dict[str, dict[str, Any]]:
    """The curation.auc claims. The labeller learns from the pages and the other corpora by the stated rules, never from
    labels. The labels of the training folds fit the combination of the grades and determine the seed pages."""
    rows = [json.loads(line) for line in (folder / "corpus/web/dclm_labelled.jsonl").read_bytes().split(b"\n") if line]
    texts, good_N = [row["text"] for row in rows], np.array([row["label"] == 1 for row in rows])
    direction = _direction(folder, texts, good_N)
    print(f"label 1 against 0: {direction}")
    labeller, frequencies = _labeller(folder, texts)
    features = labeller.space.features(texts)
    grades_NT = labeller.grade(features)
    seeds = [
        Seed(telling_terms(text, frequencies, len(texts)), vector, row)
        for row, (text, vector) in enumerate(zip(texts, features.embedding_NK, strict=True))
    ]
    with tempfile.TemporaryDirectory() as database:
        retriever = Retriever(Path(database))
        retriever.add(texts, features.embedding_NK)
        retriever.build()
        added_NN = np.stack(list(similarity(retriever, seeds, NEIGHBOURS)))
    every = np.array(texts, dtype=object)

    def by_grades(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (PENALTY * len(train)), max_iter=2000))
        return model.fit(grades_NT[train], good_N[train]).decision_function(grades_NT[test])

    def by_value(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        seeded = train[good_N[train]]
        found_NC = columns(grades_NT, scaled(added_NN[seeded].sum(0), len(seeded)))
        return QualityModel.fit(found_NC[train], good_N[train], PENALTY).values(found_NC[test])

    def by_words(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        model = make_pipeline(words, LogisticRegression(C=10, max_iter=2000))
        return model.fit(every[train], good_N[train]).decision_function(every[test])

    folds = list(RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0).split(texts, good_N))
    scores = {GRADES: by_grades, VALUE: by_value, WORDS: by_words}
    runs = {name: [auc(score(*fold), good_N[fold[1]]) for fold in folds] for name, score in scores.items()}
    measured = {name: _interval(values) | {"n": len(texts), "unit": "AUC"} for name, values in runs.items()}
    found_NC = columns(grades_NT, scaled(added_NN[good_N].sum(0), int(good_N.sum())))
    whole = QualityModel.fit(found_NC, good_N, PENALTY)
    measured[VALUE]["importance"] = importance(whole, found_NC, good_N, balance(good_N), 0)
    measured[VALUE]["minus_words"] = _interval([a - b for a, b in zip(runs[VALUE], runs[WORDS], strict=True)])
    measured[GRADES]["direction"] = direction
    measured[GRADES]["minus_words"] = _interval([a - b for a, b in zip(runs[GRADES], runs[WORDS], strict=True)])
    for name in scores:
        print(name, {key: measured[name][key] for key in ("value", "low", "high")}, measured[name].get("minus_words"))
    return measured


def _labeller(folder: Path, pages: list[str]) -> tuple[Labeller, dict[str, int]]:
    """A labeller for web pages, and the word frequencies in the pages."""
    others = [text for name, texts in corpora(folder).items() if name != "web/dclm_labelled" for text in texts]
    rng = np.random.default_rng(0)
    chosen = [others[i] for i in rng.permutation(len(others))[:1500]]
    examples = [Example(text, "unknown") for text in [*pages, *chosen]]
    frequencies: dict[str, int] = {}
    for text in [*pages, *chosen]:
        for word in set(terms_of(text)):
            frequencies[word] = frequencies.get(word, 0) + 1
    rules = RuleAnnotator({word for word, n in frequencies.items() if n >= 3})
    texts = [example.text for example in examples]
    space = FeatureSpace.fit(texts, DIMENSIONS, 0)
    heads = Heads.fit(space.rows(space.features(texts)), as_array(rules.annotate(examples)), RIDGE)
    in_pages: dict[str, int] = {}
    for text in pages:
        for word in set(terms_of(text)):
            in_pages[word] = in_pages.get(word, 0) + 1
    return Labeller(space, heads), in_pages


def _direction(folder: Path, texts: list[str], good_N: npt.NDArray[np.bool_]) -> dict[str, float]:
    """AUC of label 1 for two rankings that use no labels."""
    corpus = folder / "corpus"
    spam = [json.loads(line) for line in (corpus / "email.jsonl").read_bytes().split(b"\n") if line]
    sound = [*jsonl(corpus / "wikitext2.jsonl", "text"), *jsonl(corpus / "rust_book.jsonl", "text")]
    poor = [*jsonl(corpus / "training_logs.jsonl", "text"), *(row["text"] for row in spam if row["label"] == "spam")]
    pieces = [[text[i : i + 1500] for text in part for i in range(0, len(text), 1500)] for part in (sound, poor)]
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=3), LogisticRegression(max_iter=2000))
    model.fit(pieces[0] + pieces[1], [1] * len(pieces[0]) + [0] * len(pieces[1]))
    grammar = np.array([measure(text)[STATISTICS.index("grammar_words")] for text in texts])
    return {
        "encyclopaedia_and_book_against_logs_and_spam": auc(model.decision_function(texts), good_N),
        "share_of_grammar_words": auc(grammar, good_N),
    }


def _interval(values: list[float]) -> dict[str, Any]:
    """Mean over the 25 folds, 95% t-interval with the variance corrected for overlapping training sets (Nadeau and
    Bengio 2003: 1/25 + 1/4 in place of 1/25)."""
    mean = statistics.mean(values)
    half = student_quantile(0.95, len(values) - 1) * statistics.stdev(values) * (1 / len(values) + 1 / 4) ** 0.5
    return {"value": mean, "low": mean - half, "high": mean + half, "runs": [round(value, 4) for value in values]}
