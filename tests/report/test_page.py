"""The page of runs made by hand, with hostile texts, and of the nano recipe."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks.newcomer import phone
from thinkling.data.artifact import Artifact, finish, write_json
from thinkling.data.documents import RejectedWriter, write_documents
from thinkling.errors import UserError
from thinkling.report.page import write
from thinkling.report.picture import write_picture
from thinkling.report.read import Stage, TrainingLog, read_run

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b[31m\u202e\"'&{{ 7*7 }}"
RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(k, v or "") for k, v in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self) -> list[float]:
        return [float(v) for k, v in self.attributes if k == "data-value" and v != "None"]

    def check(self) -> None:
        """Balanced, self-contained, and without a script."""
        assert self.open == []
        assert not self.tags & {"script", "img", "iframe", "object", "link", "base", "form"}
        assert not [k for k, _ in self.attributes if k.startswith("on") or k in ("src", "xlink:href")]
        assert all(v.startswith("#") for k, v in self.attributes if k == "href")
        assert not re.search(r"url\((?!#)|@import", self.source)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", self.source)
        for drawn in re.findall(r"<svg.*?</svg>", self.source, re.S):
            ElementTree.fromstring(drawn)


def make(run: Path, name: str, kind: str, stage: dict[str, Any], given: dict[str, Artifact], **counts: Any) -> Artifact:
    """An artifact as the runner leaves it, of the files in `<name>.partial`."""
    partial = run / f"{name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    manifest = {
        "kind": kind,
        "stage": name,
        "hash": "0" * 64,
        "resolved": {"stage": stage, "seed": 1},
        "inputs": {role: {"artifact": a.path.name, "digest": a.digest} for role, a in given.items()},
        "counts": counts,
    }
    return finish(partial, run / f"{name}-0123abcd", manifest, {"wall_seconds": 1.5, "peak_rss_mb": 99.0})


def summarise(run: Path, artifacts: dict[str, Artifact]) -> None:
    stages = [{"name": n, "counts": a.counts, "wall_seconds": 1.5} for n, a in artifacts.items()]
    write_json(run / "summary.json", {"recipe": run.name, "seed": 0, "wall_seconds": 3.0, "stages": stages})


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose every text is hostile: names, sources, phases, documents, conversations, rollouts, pairs."""
    run = tmp_path / "run"
    document = {"id": HOSTILE, "text": HOSTILE * 40, "source": HOSTILE, "quality": "hq", "markup": False}
    write_documents(run / "curate.partial" / "documents.parquet", [document])
    with RejectedWriter(run / "curate.partial" / "rejected.parquet") as rejected:
        rejected.write(document, HOSTILE, HOSTILE)
    message = {"role": HOSTILE, "content": HOSTILE, "reasoning_content": HOSTILE, "tool_calls": HOSTILE}
    conversations = [{"id": HOSTILE, "messages": [message], "source": HOSTILE}]
    pq.write_table(pa.Table.from_pylist(conversations), run / "curate.partial" / "conversations.parquet")
    pairs = [{"problem_id": HOSTILE, "positive": HOSTILE, "margin": 1.0, "tokens": [1, 2]}]
    pq.write_table(pa.Table.from_pylist(pairs), run / "curate.partial" / "pairs.parquet")
    counts = {"in": 2, "kept": 1, "rejected": {HOSTILE: 1}, "sources": {HOSTILE: {"in": 2}}}
    curate = make(run, "curate", "documents", {"kind": "curate", "inputs": {}}, {}, **counts)
    (run / "pretrain.partial" / "validation").mkdir(parents=True)
    row = {"step": 0, "loss": 3.0, "lr": 1e-3, HOSTILE: 1.0, "phase": HOSTILE, "rows": {HOSTILE: 2}}
    lines = [json.dumps({**row, "step": i, "loss": 3.0 - i}) for i in range(2)]
    (run / "pretrain.partial" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write_json(run / "pretrain.partial" / "validation" / "0.json", {"phase": HOSTILE, HOSTILE: 2.5})
    trained = {"kind": "pretrain", "inputs": {"tokens": "curate"}, "batch_tokens": 8}
    pretrain = make(run, "pretrain", "model", trained, {"tokens": curate}, steps=2, tokens=16)
    rollouts = [
        {"family": HOSTILE, "question": HOSTILE, "reference": HOSTILE, "text": HOSTILE, "outcome": o, "tier": HOSTILE}
        for o in ("right", "wrong", HOSTILE)
    ]
    store = run / "evaluate.partial" / "rollouts" / "set"
    store.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rollouts), store / "00000.parquet")
    score = {"task_set": HOSTILE, "renderer": HOSTILE, "k": 2, "n": 3, "mean": 0.5, "low": 0.25, "high": 0.75}
    write_json(run / "evaluate.partial" / "scores.json", [{**score, "per_family": {HOSTILE: 0.5}}])
    asked = {"kind": "evaluate", "inputs": {"model": HOSTILE}}
    evaluate = make(run, "evaluate", "scores", asked, {"model": pretrain}, **{HOSTILE: {"problems": 3, "samples": 6}})
    summarise(run, {"curate": curate, "pretrain": pretrain, "evaluate": evaluate})
    return run


def test_hostile_texts_are_shown_not_run(hostile: Path) -> None:
    page = Page(write(hostile))
    page.check()
    assert page.text.count("<script>alert(1)</script>") > 20
    assert "␛[31m⟨U+202E⟩" in page.text
    assert "{{ 7*7 }}" in page.text
    assert f"cut: 900 of {len(HOSTILE) * 40:,} characters shown" in page.text
    picture = write_picture(hostile, hostile / "picture.svg").read_text(encoding="utf-8")
    assert "script" not in {e.tag.split("}")[-1] for e in ElementTree.fromstring(picture).iter()}


def test_the_page_names_what_is_missing(hostile: Path) -> None:
    with pytest.raises(UserError, match=r"summary\.json is missing"):
        write(hostile / "nowhere")
    metrics = hostile / "pretrain-0123abcd" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + "{broken\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:3: not JSON"):
        write(hostile)
    (hostile / "curate-0123abcd" / "documents.parquet").write_bytes(b"no parquet")
    metrics.write_text("")
    with pytest.raises(UserError, match=r"documents\.parquet: cannot be read"):
        write(hostile)
    (hostile / "curate-0123abcd").rename(hostile / "gone")
    with pytest.raises(UserError, match=r"artifact of stage curate listed in summary\.json is missing"):
        write(hostile)


def test_of_two_artifacts_the_summary_decides(tmp_path: Path) -> None:
    stage = {"kind": "curate", "inputs": {}}
    old = make(tmp_path, "curate", "documents", stage, {}, kept=1)
    old.path.rename(tmp_path / "curate-00000000")
    new = make(tmp_path, "curate", "documents", stage, {}, kept=2)
    summarise(tmp_path, {"curate": new})
    assert [s.path.name for s in read_run(tmp_path).stages] == ["curate-0123abcd"]
    summarise(tmp_path, {"curate": old})
    assert [s.path.name for s in read_run(tmp_path).stages] == ["curate-00000000"]
    given = {"curate": tmp_path / "curate-0123abcd"}
    assert [s.counts["kept"] for s in read_run(tmp_path, given).stages] == [2]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page, dict[str, Artifact]]:
    """The nano recipe: its page after curate and tokenize, then the whole run."""
    from thinkling.pipeline import runner, summary
    from thinkling.pipeline.recipe import load_recipe

    run = runner.Run(load_recipe(RECIPE), tmp_path_factory.mktemp("runs"))
    console = Console(quiet=True)
    runner.execute(run, console, ["tokenize"])
    summary.write(run, 1.0)
    early = Page(write(run.directory))
    runner.execute(run, console)
    summary.write(run, 2.0)
    return run.directory, early, run.finished()


def test_a_run_of_two_stages_has_a_page(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    _, early, done = nano
    early.check()
    assert f"{done['curate'].counts['in']:,}" in early.text
    assert "Samples to read" in early.text
    assert 'id="scores"' not in early.source
    assert 'id="training"' not in early.source


def test_numbers_are_those_of_the_artifacts(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    directory, _, done = nano
    page = Page(write(directory, {name: a.path for name, a in done.items()}))
    page.check()
    assert page.source == write(directory).read_text(encoding="utf-8")
    expected: list[float] = []
    scores = [s for a in done.values() if (a.path / "scores.json").exists() for s in _json(a.path / "scores.json")]
    assert scores
    expected += [s["mean"] for s in scores]
    # A table of one family would repeat the mean.
    sets = dict.fromkeys(s["task_set"] for s in scores)
    families = {t: {f for s in scores if s["task_set"] == t for f in s["per_family"]} for t in sets}
    expected += [v for s in scores if len(families[s["task_set"]]) > 1 for v in s["per_family"].values()]
    validation = [_json(p) for a in done.values() for p in sorted(a.path.glob("validation/[0-9].json"))]
    assert validation
    expected += [v for phase in validation for k, v in phase.items() if k != "phase"]
    assert sorted(page.values()) == sorted(expected)
    for artifact in done.values():
        assert artifact.path.name in page.text
        for value in artifact.counts.values():
            if isinstance(value, int):
                assert f"{value:,}" in page.text
    for source, counts in done["curate"].counts["sources"].items():
        assert source in page.text
        assert f"{counts['in']:,}" in page.text


def test_differences_are_those_of_the_scores(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    directory, _, _ = nano
    page = Page(write(directory))
    expected: list[float] = []
    by_set: dict[str, list[dict[str, Any]]] = {}
    for score in read_run(directory).scores:
        by_set.setdefault(score["task_set"], []).append(score)
    for scores in by_set.values():
        expected += [after["mean"] - before["mean"] for before, after in pairwise(scores)]
    assert expected
    drawn = [float(v) for k, v in page.attributes if k == "data-difference"]
    assert sorted(drawn) == pytest.approx(sorted(expected))


def test_rl_has_reward_in_view_and_three_samples_open(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    directory, _, _ = nano
    source = write(directory).read_text(encoding="utf-8")
    rl = [stage.name for stage in read_run(directory).stages if stage.kind == "rl"]
    assert len(rl) > 1
    for name in rl:
        in_view = source.split(f"<h4>{name}</h4>")[1].split("<h4>")[0].split("<details>")[0]
        assert re.findall("<title>(.*?)</title>", in_view) == ["reward", "thinking share", "length, tokens per sample"]
        opened = source.split(f"<h3>{name}</h3>")[-1].split("<details")[0]
        shown = re.findall('class="why">(.*?)<', opened)
        assert [why.split(",")[0] for why in shown] == ["right", "wrong", "thinks"]


def test_pages_fold_for_a_telephone(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    """A folded table has no heads: each of its cells names its column. No figure but the folded pipeline is wide."""
    directory, _, _ = nano
    source = write(directory).read_text(encoding="utf-8")
    assert 'class="scroll"' not in source
    rows = [row for body in re.findall("<tbody>.*?</tbody>", source, re.DOTALL) for row in body.split("<tr>")[1:]]
    assert len(rows) > 30
    for row in rows:
        first, *others = re.findall("<td[^>]*>", row)
        assert "data-label" not in first
        assert all("data-label=" in cell for cell in others)
    wide = [float(w) for w in re.findall(r'<svg[^>]* width="(\d+)"', source)]
    assert [w for w in wide if w > 358] == [1080]


@pytest.mark.skipif(not any(map(shutil.which, phone.BROWSERS)), reason="no Chromium on this machine")
def test_nothing_lies_outside_a_telephones_screen(hostile: Path, tmp_path: Path) -> None:
    found = phone.measured(write(hostile), 390, phone.browser())
    assert (found["inner"], found["width"], found["found"]) == (390, 390, [])
    assert found["shown"] > 200
    wide = tmp_path / "wide.html"
    wide.write_text('<body><div style="overflow:auto"><p style="width:500px">x</p></div></body>')
    assert {one["element"] for one in phone.measured(wide, 390, phone.browser())["found"]} == {"div", "p"}


def test_curves_follow_the_logs(nano: tuple[Path, Page, dict[str, Artifact]]) -> None:
    directory, _, _ = nano
    stage = next(s for s in read_run(directory).stages if s.kind == "pretrain")
    log = stage.log
    assert log is not None
    assert log.tokens[-1] == stage.counts["tokens"]
    assert [phase.last for phase in log.phases] == stage.counts["phase_ends"]
    assert len(log.column("loss")) == stage.counts["steps"]


@pytest.mark.parametrize(
    ("rows", "batch_tokens", "unit", "ends"),
    [
        ([{"loss_tokens": 3}, {"loss_tokens": 4}], 8, "tokens", [8, 16]),
        ([{"loss_tokens": 3}, {"loss_tokens": 4}], None, "tokens with loss", [3, 7]),
        ([{"loss": 1.0}, {"loss": 2.0}], None, "steps", [1, 2]),
    ],
)
def test_the_axis_counts_what_it_says(rows: list[dict], batch_tokens: int | None, unit: str, ends: list[int]) -> None:
    log = TrainingLog(rows, batch_tokens)
    assert (log.unit, log.tokens) == (unit, ends)


@pytest.mark.parametrize(("phases", "unit"), [([{}, {}], "tokens"), ([{}, {"batch_tokens": 16}], "tokens with loss")])
def test_a_batch_ramp_has_no_constant_number_of_tokens(tmp_path: Path, phases: list[dict], unit: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"loss_tokens": 3}\n')
    stage = {"kind": "pretrain", "batch_tokens": 8, "phases": phases}
    log = Stage("p", tmp_path, {"resolved": {"stage": stage}}).log
    assert log is not None
    assert log.unit == unit


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
