"""The harness: claims.yaml, the verdict, what a script may print, what is written."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
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
    name: str = "speed.a",
    operator: str = ">=",
    bar: float | None = 1.5,
    unit: str = "ratio",
    script: str = "one",
    **more: object,
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
            **more,
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


def payload(measurements: Mapping[str, dict[str, object]]) -> str:
    return json.dumps({"measurements": measurements})


def test_every_current_claim_has_kept_its_bar() -> None:
    """Bars are stated once; a claim that got a new id says which it had."""
    claims = load_claims(ROOT / "benchmarks" / "claims.yaml")
    by_former = {one.was: one for one in claims.claims if one.was is not None}
    bars = {
        "A8a": (">=", 5),
        "A9b": (">=", 1.15),
        "A11b": ("<", 0.5),
        "A14a": ("<", 8),
        "B1a": ("<=", 15),
        "B1b": ("<", 4),
        "B2": ("interval_above", 0),
        "B5": (">=", 0.8),
        "B15": ("<=", 0.75),
    }
    assert {name: (by_former[name].operator, by_former[name].bar) for name in bars} == bars
    named = {"tiny.wall", "tiny.memory", "tiny.score", "tiny.transitions", "tests.wall", "tests.anywhere", "exact.kill"}
    by_id = {one.id: one for one in claims.claims}
    stages = ("tiny.each-stage-sft", "tiny.each-stage-dpd", "tiny.each-stage-rl", "tiny.thinks-better")
    bars = {"tiny.beats-base": ("interval_above", 0.05), "tiny.keeps": ("==", 0)} | dict.fromkeys(
        stages, ("interval_above", 0)
    )
    assert {name: (by_id[name].operator, by_id[name].bar) for name in bars} == bars
    named |= {f"house.{rule}" for rule in ("floors", "moves", "changes")}
    assert named <= {one.id for one in claims.claims}


def test_every_command_is_a_script() -> None:
    for one in load_claims(ROOT / "benchmarks" / "claims.yaml").claims:
        module = one.command.split()[2]
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), one.id


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
        ("id", "A9a"),
        ("id", "speed"),
        ("id", "speed.Train"),
        ("unit", ""),
        ("command", "rm -rf results"),
        ("command", "python -m benchmarks.one; reboot"),
        ("command", "python -m benchmarks.one /home/me/data"),
        ("superseded_by", "x"),
        ("half_width", 0.1),
        ("was", "speed.b"),
    ],
)
def test_a_faulty_claim_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Claim.model_validate(claim().model_dump() | {field: value})


def test_ids_are_unique_and_successors_exist() -> None:
    with pytest.raises(ValueError, match=r"speed\.a is given twice"):
        Claims(claims=(claim(), claim()))
    with pytest.raises(ValueError, match="A9a` is given twice"):
        Claims(claims=(claim(was="A9a"), claim("speed.b", was="A9a")))
    with pytest.raises(ValueError, match=r"superseded by speed\.b"):
        Claims(claims=(claim(superseded_by="speed.b"),))


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


def test_stated_needs_an_interval_as_narrow_as_promised() -> None:
    one = claim(operator="stated", bar=None, half_width=0.125)
    assert holds(one, measured(0.2, 0.125, 0.375))
    assert not holds(one, measured(0.2, 0.125, 0.376))
    assert not holds(one, measured(0.2))


@pytest.mark.parametrize("change", [{"value": float("nan")}, {"low": 3.0, "high": 1.0}, {"low": 1.0}, {"n": 0}])
def test_a_faulty_measurement_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Measurement.model_validate(measured().model_dump() | change)


def test_bench_writes_what_the_design_says(repository: Path, tmp_path: Path, console: Console) -> None:
    fast = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 4, "runs": [2.0, 2.0], "unit": "ratio", "tokens_per_second": 9}
    slow = {"value": 1.0, "n": 4, "runs": 4, "unit": "ratio"}
    write_script(repository, "one", "progress", payload({"speed.a": fast, "speed.b": slow}))
    folder = tmp_path / "results"
    claims = Claims(claims=(claim("speed.a"), claim("speed.b")))
    assert harness.bench(claims, claims.claims, repository, folder, console) == 0
    stored = json.loads((folder / "speed.json").read_text())
    assert [list(entry) for entry in stored["claims"]] == [KEYS, KEYS]
    assert [entry["holds"] for entry in stored["claims"]] == [True, False]
    assert stored["claims"][0]["command"] == "python -m benchmarks.one"
    assert stored["details"] == {"speed.a": {"tokens_per_second": 9}}
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "holds" in drawn
    assert "missed" in drawn
    assert set(load_results(folder, ["speed", "exact"])) == {"speed.a", "speed.b"}


def test_a_measurement_overwrites_its_own_claims_only(repository: Path, tmp_path: Path, console: Console) -> None:
    """One claim of a topic is measured again, with another topic's that its command measures too."""
    claims = Claims(claims=(claim("speed.a"), claim("speed.b", script="two"), claim("exact.a", script="two")))
    write_script(repository, "one", payload({"speed.a": {"value": 1.0, "n": 1, "unit": "ratio", "seconds": 3}}))
    two = {"value": 1.0, "n": 1, "unit": "ratio", "seconds": 4}
    write_script(repository, "two", payload({"speed.b": two, "exact.a": {"value": 7, "n": 1, "unit": "ratio"}}))
    folder = tmp_path / "results"
    assert harness.bench(claims, harness.select(claims, "all"), repository, folder, console) == 0
    before = json.loads((folder / "speed.json").read_text())
    write_script(repository, "two", payload({"speed.b": {"value": 2.0, "n": 1, "unit": "ratio"}, "exact.a": two}))
    assert harness.bench(claims, harness.select(claims, "exact.a"), repository, folder, console) == 0
    after = json.loads((folder / "speed.json").read_text())
    assert after["claims"][0] == before["claims"][0]
    assert [entry["value"] for entry in after["claims"]] == [1.0, 2.0]
    assert before["details"] == {"speed.a": {"seconds": 3}, "speed.b": {"seconds": 4}}
    assert after["details"] == {"speed.a": {"seconds": 3}}
    assert json.loads((folder / "exact.json").read_text())["details"] == {"exact.a": {"seconds": 4}}


def test_a_run_of_the_new_recipe_overwrote_the_superseded_claim(
    repository: Path, tmp_path: Path, console: Console
) -> None:
    """What was measured on the old recipe stays, even if the same command measures something of that name."""
    old = claim("speed.old", superseded_by="speed.a")
    write_script(repository, "one", payload({"speed.old": {"value": 1.0, "n": 1, "unit": "ratio"}}))
    folder = tmp_path / "results"
    assert harness.bench(Claims(claims=(claim("speed.old"),)), [claim("speed.old")], repository, folder, console) == 0
    new = {"value": 9.0, "n": 1, "unit": "ratio"}
    write_script(repository, "one", payload({"speed.old": new, "speed.a": new}))
    claims = Claims(claims=(old, claim("speed.a")))
    assert harness.bench(claims, [claim("speed.a")], repository, folder, console) == 0
    assert {name: one.value for name, one in load_results(folder, ["speed"]).items()} == {"speed.old": 1, "speed.a": 9}
    with pytest.raises(UserError, match=r"NAME=speed\.old: superseded; measure speed\.a instead"):
        harness.bench(claims, harness.select(claims, "speed.old"), repository, folder, console)


def test_a_claim_left_unmeasured_is_exit_1(repository: Path, tmp_path: Path, console: Console) -> None:
    write_script(repository, "one", payload({"speed.a": {"value": 2.0, "n": 1, "unit": "ratio"}}))
    folder = tmp_path / "results"
    claims = Claims(claims=(claim("speed.a"), claim("speed.b")))
    assert harness.bench(claims, claims.claims, repository, folder, console) == 1
    assert [entry["id"] for entry in json.loads((folder / "speed.json").read_text())["claims"]] == ["speed.a"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (payload({"speed.a": {"value": 2.0, "n": 1, "unit": "ratio"}}), 1),
        (payload({"speed.a": {"value": 2.0, "n": 1, "unit": "seconds"}}), 0),
        (payload({"speed.b": {"value": 2.0, "n": 1, "unit": "ratio"}}), 0),
        ("no JSON", 0),
        ('{"measurements": {"speed.a": {"value": NaN, "n": 1, "unit": "ratio"}}}', 0),
    ],
    ids=["failed", "other unit", "other claim", "no JSON", "not a number"],
)
def test_a_bad_script_leaves_the_stored_result(
    repository: Path, tmp_path: Path, console: Console, line: str, status: int
) -> None:
    write_script(repository, "one", line, status=status)
    kept = tmp_path / "results" / "speed.json"
    kept.parent.mkdir()
    kept.write_text("kept")
    assert harness.bench(Claims(claims=(claim(),)), [claim()], repository, kept.parent, console) == 1
    assert kept.read_text() == "kept"


def test_each_command_runs_once(repository: Path, tmp_path: Path, console: Console) -> None:
    write_script(repository, "one", payload({"exact.a": {"value": 0, "n": 1, "unit": "ratio"}}))
    write_script(repository, "two", payload({"exact.b": {"value": 1, "n": 1, "unit": "ratio"}}))
    with (repository / "benchmarks" / "one.py").open("r+") as script:
        text = script.read()
        script.seek(0)
        script.write(f"open('ran', 'a').write('x')\n{text}")
    group = (claim("exact.a"), claim("exact.c"), claim("exact.b", script="two"))
    assert harness.bench(Claims(claims=group), group, repository, tmp_path, console) == 1
    assert (repository / "ran").read_text() == "x"
    assert {name: one.value for name, one in load_results(tmp_path, ["exact"]).items()} == {"exact.a": 0, "exact.b": 1}


def test_commit_tells_a_dirty_tree_but_not_results(repository: Path) -> None:
    head = machine.commit(repository)
    assert len(head) == 40
    (repository / "benchmarks" / "results").mkdir()
    (repository / "benchmarks" / "results" / "speed.json").write_text("{}")
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
    old = claim("speed.old", superseded_by="speed.a")
    claims = Claims(claims=(old, claim("speed.a"), claim("speed.b"), claim("exact.a")))

    def ids(name: str) -> list[str]:
        return [one.id for one in harness.select(claims, name)]

    assert ids("speed.a") == ["speed.a"]
    assert ids("speed.old") == ["speed.old"]
    assert ids("speed") == ["speed.a", "speed.b"]
    assert ids("all") == ["speed.a", "speed.b", "exact.a"]
    for unknown in ("speed.c", "spee", "A9"):
        with pytest.raises(UserError, match=f"NAME={unknown}: no such claim or topic; topics are speed, exact"):
            ids(unknown)


def test_markdown_marks_missed_and_unmeasured() -> None:
    claims = [claim("speed.a"), claim("speed.b"), claim("speed.c", "stated", None), claim("speed.d", "==", 0)]
    results = harness.as_results(
        claims,
        {"speed.a": measured(2.04), "speed.b": measured(1, 0.9, 1.1), "speed.c": measured(0.5, 0.4, 0.6)},
        "c0ffee",
        "a machine",
    )
    lines = harness.markdown(claims, {one.id: one for one in results.claims}).split("\n")
    assert lines[2:] == [
        "| speed.a | statement of speed.a | – | ≥ 1.5 ratio | 2.04 | – | 3 | holds |",
        "| speed.b | statement of speed.b | – | ≥ 1.5 ratio | 1 | 0.9–1.1 | 3 | missed |",
        "| speed.c | statement of speed.c | – | stated, ratio | 0.5 | 0.4–0.6 | 3 | holds |",
        "| speed.d | statement of speed.d | – | = 0 ratio | – | – | – | not measured |",
    ]


def test_command_line_reports_an_unknown_claim(capfd: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["Z9"]) == 2
    assert "NAME=Z9" in capfd.readouterr().err


def test_docs_claims_is_what_the_harness_prints() -> None:
    """docs/claims.md: `python -m benchmarks.harness --table > docs/claims.md`."""
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", "--table"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert printed == (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    claims = load_claims(ROOT / "benchmarks" / "claims.yaml")
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ") and "." in line[:20]]
    assert rows == [one.id for topic in claims.topics() for one in claims.of(topic)]


def test_docs_and_makefile_name_claims_that_exist() -> None:
    claims = load_claims(ROOT / "benchmarks" / "claims.yaml")
    for path in (ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))):
        for name in re.findall(r"NAME=([a-z][\w.-]*\w)", path.read_text(encoding="utf-8")):
            assert harness.select(claims, name), path


def test_stored_results_are_readable_and_judged_by_their_claims() -> None:
    """What lies in benchmarks/results says of each claim what the harness would say today."""
    claims = {one.id: one for one in load_claims(ROOT / "benchmarks" / "claims.yaml").claims}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        for result in Results.model_validate_json(path.read_bytes()).claims:
            assert claims[result.id].topic == path.stem
            one = claims[result.id]
            again = Measurement(value=result.value, low=result.low, high=result.high, n=result.n, unit=result.unit)
            assert (result.bar, result.unit, result.holds) == (one.bar, one.unit, holds(one, again)), result.id
