"""The grades without a stage: texts in, grades and values out, as docs/curate.md shows."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quality.texts import advertisement, prose
from thinkling.data.artifact import write_json
from thinkling.data.documents import write_documents
from thinkling.errors import UserError
from thinkling.progress import Silent
from thinkling.quality.config import GradingConfig
from thinkling.quality.grade_pool import Graded, grade_pool
from thinkling.quality.labeller import Labeller
from thinkling.quality.pool import Origin, Pool
from thinkling.quality.tags import NAMES
from thinkling.quality.value import QualityModel

ROOT = Path(__file__).resolve().parents[2]
RNG = random.Random(0)
GOOD, BAD = [prose(RNG, 12) for _ in range(60)], [advertisement(RNG) for _ in range(60)]


def snippets() -> list[str]:
    """The Python of the section."""
    section = (ROOT / "docs" / "curate.md").read_text(encoding="utf-8").split("## Using the grades alone")[1]
    return re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Graded]:
    """A labeller and a value fitted to texts, saved as the stage saves them."""
    folder = tmp_path_factory.mktemp("alone")
    texts = [("good", text) for text in GOOD] + [("bad", text) for text in BAD]
    documents = (
        {"id": f"{source}/{i}", "text": text, "source": source, "quality": "mq", "markup": False}
        for i, (source, text) in enumerate(texts)
    )
    write_documents(folder / "pool.parquet", documents)
    origins = {"good": Origin("good", "prose"), "bad": Origin("bad")}
    pool = Pool.survey(folder / "pool.parquet", origins)
    config = GradingConfig(seeds={"good": 20}, hq_tokens=10_000, annotated=100, dimensions=8, neighbours=20)
    found, learned, report = grade_pool(pool, config, None, folder / "database", seed=0, progress=Silent())
    learned.labeller.save(folder / "labeller")
    write_json(folder / "grading.json", report)
    return folder, found


def test_texts_in_grades_and_values_out(graded: tuple[Path, Graded]) -> None:
    folder, found = graded
    labeller, model = Labeller.load(folder / "labeller"), QualityModel.load(folder / "grading.json")
    grades = labeller.grade_texts([*GOOD, *BAD])
    np.testing.assert_array_equal(grades, found.grades_NT)
    np.testing.assert_allclose(model.values(found.columns_NC), found.values_N)
    values = model.values_of_grades(grades)
    assert values.shape == (120,)
    assert values[:60].min() > values[60:].max()


def test_a_value_without_similarity_counts_it_as_the_pools_average(graded: tuple[Path, Graded]) -> None:
    folder, found = graded
    model = QualityModel.load(folder / "grading.json")
    similarity_terms = model.contributions(found.columns_NC)[:, -1]
    np.testing.assert_allclose(model.values_of_grades(found.grades_NT), found.values_N - similarity_terms, atol=1e-9)


def test_a_report_without_a_quality_model_is_named(tmp_path: Path) -> None:
    for text in ("{}", "[", "[]", '{"quality": {"columns": [], "intercept": 0}}'):
        (tmp_path / "grading.json").write_text(text)
        with pytest.raises(UserError, match=r"grading\.json: contains no quality model"):
            QualityModel.load(tmp_path / "grading.json")
    write_json(tmp_path / "grading.json", {"quality": {"intercept": 0, "columns": {"a": {"weight": 1, "mean": 0}}}})
    with pytest.raises(UserError, match="different tags"):
        QualityModel.load(tmp_path / "grading.json")


def test_the_documented_snippets_run(
    graded: tuple[Path, Graded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, fitted = snippets()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/tiny").mkdir(parents=True)
    (tmp_path / "runs/tiny/curate-1a2b3c4d").symlink_to(graded[0])
    names: dict[str, Any] = {}
    exec(loaded, names)
    assert names["grades"].shape == (2, len(NAMES))
    assert names["values"][0] > names["values"][1]
    exec(fitted, {"documents": [*GOOD, *BAD]})
    assert (tmp_path / "labeller/labeller.json").exists()
    assert "value " in capsys.readouterr().out.splitlines()[-1]


def test_quality_loads_neither_stages_nor_torch() -> None:
    code = (
        "import sys, thinkling.quality.grade_pool\n"
        "print([n for n in sys.modules if n == 'torch' or n.startswith(('thinkling.stages', 'thinkling.puzzles'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
