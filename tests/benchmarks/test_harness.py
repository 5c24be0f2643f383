"""The harness: claims.yaml, the verdict, what a script may print, what is written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from benchmarks import harness, machine
from benchmarks.claims import Claim, Claims, Measurement, Results, holds, load_claims, load_results
from thinkling.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
KEYS = ["id", "value", "low", "high", "n", "runs", "unit", "bar", "holds", "commit", "machine", "command"]


def claim(
    name: str = "A9a", operator: str = ">=", bar: float | None = 1.5, unit: str = "ratio", script: str = "one"
) -> Claim:
    return Claim.model_validate(
        {
            "id": name,
            "statement": f"statement of {name}",
            "operator": operator,
            "bar": bar,
            "unit": unit,
            "peer": None,
            "command": f"python -m benchmarks.{script}",
        }
    )


def measured(
    value: float = 2.0, low: float | None = None, high: float | None = None, unit: str = "ratio"
) -> Measurement:
    return Measurement(value=value, low=low, high=high, n=3, runs=3, unit=unit)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a package `benchmarks`, where tests write scripts."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def write_script(repository: Path, name: str, *lines: str, status: int = 0) -> None:
    body = "".join(f"print({line!r})\n" for line in lines)
    (repository / "benchmarks" / f"{name}.py").write_text(f"import sys\n{body}sys.exit({status})\n")


def payload(**measurements: dict[str, object]) -> str:
    return json.dumps({"measurements": measurements})


def test_every_claim_of_the_spine_is_there() -> None:
    claims = load_claims(ROOT / "benchmarks" / "claims.yaml")
    assert set(claims.numbers()) >= {f"A{number}" for number in range(1, 15)}
    by_id = {one.id: one for one in claims.claims}
    bars = {"A1a": ("<=", 10), "A3a": ("interval_above", 0), "A8a": (">=", 5), "A9b": (">=", 1.15), "A11b": ("<", 0.5)}
    assert {name: (by_id[name].operator, by_id[name].bar) for name in bars} == bars


def test_an_unknown_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "benchmarks" / "claims.yaml").read_text())
    content["claims"][2]["bars"] = 3
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"claims\.yaml: claims\.2\.bars"):
        load_claims(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operator", "≥"),
        ("bar", None),
        ("id", "a9"),
        ("unit", ""),
        ("command", "rm -rf results"),
        ("command", "python -m benchmarks.one; reboot"),
        ("command", "python -m benchmarks.one /home/me/data"),
        ("superseded_by", "x"),
    ],
)
def test_a_faulty_claim_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Claim.model_validate(claim().model_dump() | {field: value})


def test_ids_are_unique_and_successors_exist() -> None:
    with pytest.raises(ValueError, match="A9a stands twice"):
        Claims(claims=(claim(), claim()))
    with pytest.raises(ValueError, match="superseded by B1"):
        Claims(claims=(claim().model_copy(update={"superseded_by": "B1"}),))


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
        (">=", False, True, True),
        (">", False, False, True),
    ],
)
def test_operators(operator: str, below: bool, at: bool, above: bool) -> None:
    one = claim(operator=operator, bar=1.5)
    assert [holds(one, measured(value)) for value in (1.4, 1.5, 1.6)] == [below, at, above]


def test_interval_above_looks_at_the_low_end() -> None:
    one = claim(operator="interval_above", bar=0)
    assert holds(one, measured(0.2, 0.1, 0.3))
    assert not holds(one, measured(0.2, 0.0, 0.3))
    assert not holds(one, measured(0.2, -0.1, 0.3))
    assert not holds(one, measured(0.2))


def test_stated_needs_an_interval() -> None:
    one = claim(operator="stated", bar=None)
    assert holds(one, measured(0.2, 0.1, 0.3))
    assert not holds(one, measured(0.2))


@pytest.mark.parametrize("change", [{"value": float("nan")}, {"low": 3.0, "high": 1.0}, {"low": 1.0}, {"n": 0}])
def test_a_faulty_measurement_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Measurement.model_validate(measured().model_dump() | change)


def test_bench_writes_what_the_design_says(repository: Path, tmp_path: Path, console: Console) -> None:
    fast = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 4, "runs": [2.0, 2.0], "unit": "ratio", "tokens_per_second": 9}
    slow = {"value": 1.0, "n": 4, "runs": 4, "unit": "ratio"}
    write_script(repository, "one", "progress", payload(A9a=fast, A9b=slow))
    folder = tmp_path / "results"
    assert harness.bench(Claims(claims=(claim("A9a"), claim("A9b"))), ["A9"], repository, folder, console) == 0
    stored = json.loads((folder / "A9.json").read_text())
    assert [list(entry) for entry in stored["claims"]] == [KEYS, KEYS]
    assert [entry["holds"] for entry in stored["claims"]] == [True, False]
    assert stored["claims"][0]["command"] == "python -m benchmarks.one"
    assert stored["details"] == {"A9a": {"tokens_per_second": 9}}
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "holds" in drawn
    assert "missed" in drawn
    assert set(load_results(folder, ["A9", "A10"])) == {"A9a", "A9b"}


def test_a_claim_left_unmeasured_is_exit_1(repository: Path, tmp_path: Path, console: Console) -> None:
    write_script(repository, "one", payload(A9a={"value": 2.0, "n": 1, "unit": "ratio"}))
    folder = tmp_path / "results"
    assert harness.bench(Claims(claims=(claim("A9a"), claim("A9b"))), ["A9"], repository, folder, console) == 1
    assert [entry["id"] for entry in json.loads((folder / "A9.json").read_text())["claims"]] == ["A9a"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (payload(A9a={"value": 2.0, "n": 1, "unit": "ratio"}), 1),
        (payload(A9a={"value": 2.0, "n": 1, "unit": "seconds"}), 0),
        (payload(A9b={"value": 2.0, "n": 1, "unit": "ratio"}), 0),
        ("no JSON", 0),
        ('{"measurements": {"A9a": {"value": NaN, "n": 1, "unit": "ratio"}}}', 0),
    ],
    ids=["failed", "other unit", "other claim", "no JSON", "not a number"],
)
def test_a_bad_script_leaves_the_stored_result(
    repository: Path, tmp_path: Path, console: Console, line: str, status: int
) -> None:
    write_script(repository, "one", line, status=status)
    kept = tmp_path / "results" / "A9.json"
    kept.parent.mkdir()
    kept.write_text("kept")
    assert harness.bench(Claims(claims=(claim(),)), ["A9"], repository, kept.parent, console) == 1
    assert kept.read_text() == "kept"


def test_each_command_of_a_number_runs_once(repository: Path, console: Console) -> None:
    write_script(repository, "one", payload(A5a={"value": 0, "n": 1, "unit": "ratio"}))
    write_script(repository, "two", payload(A5b={"value": 1, "n": 1, "unit": "ratio"}))
    found = harness.measure([claim("A5a"), claim("A5b", script="two")], repository, console)
    assert {name: one.value for name, one in found.items()} == {"A5a": 0, "A5b": 1}


def test_commit_tells_a_dirty_tree_but_not_results(repository: Path) -> None:
    head = machine.commit(repository)
    assert len(head) == 40
    (repository / "benchmarks" / "results").mkdir()
    (repository / "benchmarks" / "results" / "A1.json").write_text("{}")
    assert machine.commit(repository) == head
    (repository / "new.py").write_text("")
    assert machine.commit(repository) == f"{head}-dirty"


def test_machine_names_no_path_or_host() -> None:
    described = machine.describe()
    assert "cores" in described
    assert "GB" in described
    assert "/" not in described.replace("GNU/Linux", "")
    assert machine.platform.node() not in described


def test_select() -> None:
    old = claim("A1a").model_copy(update={"superseded_by": "A9a"})
    claims = Claims(claims=(old, claim("A9a"), claim("A10a")))
    assert harness.select(claims, "A9") == ["A9"]
    assert harness.select(claims, "A10a") == ["A10"]
    assert harness.select(claims, "A1") == ["A1"]
    assert harness.select(claims, "all") == ["A9", "A10"]
    with pytest.raises(UserError, match="NAME=B2"):
        harness.select(claims, "B2")


def test_markdown_marks_missed_and_unmeasured() -> None:
    claims = [claim("A9a"), claim("A9b"), claim("A9c", "stated", None), claim("A9d", "==", 0)]
    results = harness.as_results(
        claims,
        {"A9a": measured(2.04), "A9b": measured(1, 0.9, 1.1), "A9c": measured(0.5, 0.4, 0.6)},
        "c0ffee",
        "a machine",
    )
    lines = harness.markdown(claims, {one.id: one for one in results.claims}).split("\n")
    assert lines[2:] == [
        "| A9a | statement of A9a | – | ≥ 1.5 ratio | 2.04 | – | 3 | holds |",
        "| A9b | statement of A9b | – | ≥ 1.5 ratio | 1 | 0.9–1.1 | 3 | missed |",
        "| A9c | statement of A9c | – | stated, ratio | 0.5 | 0.4–0.6 | 3 | holds |",
        "| A9d | statement of A9d | – | = 0 ratio | – | – | – | not measured |",
    ]


def test_command_line_reports_an_unknown_claim(capfd: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["Z9"]) == 2
    assert "NAME=Z9" in capfd.readouterr().err


def test_table_prints_every_claim() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", "--table"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    claims = load_claims(ROOT / "benchmarks" / "claims.yaml").claims
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:]] == [one.id for one in claims]


def test_stored_results_are_readable_and_judged_by_their_claims() -> None:
    """What lies in benchmarks/results says of each claim what the harness would say today."""
    claims = {one.id: one for one in load_claims(ROOT / "benchmarks" / "claims.yaml").claims}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        for result in Results.model_validate_json(path.read_bytes()).claims:
            one = claims[result.id]
            again = Measurement(value=result.value, low=result.low, high=result.high, n=result.n, unit=result.unit)
            assert (result.bar, result.unit, result.holds) == (one.bar, one.unit, holds(one, again)), result.id
