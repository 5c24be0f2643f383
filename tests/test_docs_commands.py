"""Every command in README.md, the docs and the recipes' comments can be given as it is written."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks.claims import load_claims
from benchmarks.docs_commands import MINE, ROOT, WRITTEN, commands_in, found, instead, run
from thinkling.cli import app
from thinkling.errors import UserError
from thinkling.pipeline.packaged import packaged
from thinkling.pipeline.recipe import KINDS, load_recipe


def check(words: Sequence[str]) -> None:
    """Fails with the reason if the command could not run as written."""
    program, *rest = words
    if program == "make":
        check_make(rest)
    elif program == "pip":
        check_pip(rest)
    elif program == "thinkling":
        check_thinkling(rest)
    else:
        at = rest.index("-m")
        module, arguments = rest[at + 1], rest[at + 2 :]
        if module == "pip":
            return check_pip(arguments)
        check_thinkling(arguments) if module == "thinkling" else check_module(module, arguments)


def check_make(words: Sequence[str]) -> None:
    assert shutil.which("make"), "make is needed to check its targets"
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("NAME="):
            claims = {claim.id for claim in load_claims(ROOT / "benchmarks" / "claims.yaml").claims}
            known = claims | {claim.partition(".")[0] for claim in claims} | {"all"}
            assert word.removeprefix("NAME=") in known, f"{word}: no claim and no topic of benchmarks/claims.yaml"


def check_pip(words: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"\[(.+?)\]", " ".join(words)):
        for name in extra.split(","):
            assert name in project["optional-dependencies"], f"pyproject.toml has no extra {name!r}"


def check_module(module: str, words: Sequence[str]) -> None:
    assert importlib.util.find_spec(module), f"there is no module {module}"
    shown = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for i, word in enumerate(words):
        if word.startswith("--"):
            assert re.search(rf"{word}\b", shown.stdout), f"{module} has no option {word}"
        elif module == "experiments" and i == 0:
            assert re.search(rf"[{{,]{re.escape(word)}[,}}]", shown.stdout), f"there is no experiment {word!r}"


def check_thinkling(words: Sequence[str]) -> None:
    """Parses the words as the command line does, and loads the recipe with the overrides."""
    if words in (["--help"], ["--install-completion"]):
        return
    group: Any = typer.main.get_command(app)
    verb = group.commands.get(words[0])
    assert verb is not None, f"there is no verb {words[0]!r}"
    given = verb.make_context(words[0], list(words[1:])).params
    if given.get("model") is not None:
        assert str(given["model"]).startswith(WRITTEN), f"{given['model']} is not written by any command"
    if given.get("recipe") is not None:
        check_recipe(words[0], given)


def check_recipe(verb: str, given: dict[str, Any]) -> None:
    """Whether the recipe, or for a placeholder any of ours, takes the overrides and has the stage."""
    named = str(given["recipe"])
    own = named == "RECIPE" or MINE.fullmatch(named) or named.startswith("path/to/")
    candidates = sorted((ROOT / "recipes").glob("*.yaml")) if own else [packaged().get(named, ROOT / named)]
    refusals = []
    for path in candidates:
        try:
            stages = load_recipe(path, given.get("overrides")).stages
        except UserError as error:
            refusals.append(str(error))
            continue
        of_kind = [name for name, stage in stages.items() if stage.kind == verb]
        if verb in KINDS and not of_kind:
            refusals.append(f"{path.name} has no stage of kind {verb}")
        elif given.get("stage") and given["stage"] not in (of_kind if verb in KINDS else stages):
            refusals.append(f"{path.name} has no stage {given['stage']} of kind {verb}")
        else:
            return
    raise AssertionError("; ".join(refusals))


@pytest.mark.parametrize(("page", "command"), found())
def test_a_documented_command_can_be_given(page: str, command: str) -> None:
    check(shlex.split(command))


@pytest.mark.parametrize(("page", "path"), [(p, w) for p, c in found() for w in shlex.split(c) if "/" in w])
def test_a_file_in_a_command_is_there_or_the_readers_own(page: str, path: str) -> None:
    path = path.rpartition("=")[2] if re.match(r"[\w.]+=[\w./-]+$", path) else path
    if re.fullmatch(r"[\w./-]+", path):
        assert (ROOT / path).exists() or path.startswith(WRITTEN)


def test_the_pages_have_commands() -> None:
    pages_with = {page for page, _ in found()}
    assert {"README.md", "recipes/posttrain.yaml", *(f"docs/{kind}.md" for kind in KINDS)} <= pages_with


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("thinkling dpd recipes/sft.yaml", "no stage of kind dpd"),
        ("thinkling sft recipes/tiny.yaml --stage sft_hot", "no stage sft_hot"),
        ("thinkling run recipes/tiny.yaml --set 'stages.dpd.weights={kl_negative: 0}'", "renamed to kl_rejected"),
        ("thinkling refine RECIPE --set stages.refine.chain.url=http://127.0.0.1:8000/v1", "set either input, or url"),
        ("thinkling train recipes/tiny.yaml", "no verb"),
        ("thinkling chat src/model", "not written"),
        ("make bench NAME=A9", "no claim"),
        ("make dinner", "dinner"),
        ("python -m experiments dpo", "no experiment"),
        ("python -m experiments dpd --workers 2", "no option --workers"),
        ("python -m benchmarks.recipe.nothing", "no module"),
        ("pip install '.[everything]'", "no extra"),
    ],
)
def test_F12_a_command_that_could_not_run_is_noticed(command: str, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        check(shlex.split(command))


def test_an_unknown_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --verbose"):
        check(["thinkling", "plan", "recipes/tiny.yaml", "--verbose"])


def test_commands_are_found_wherever_they_are_written() -> None:
    text = "Say `make x` or\n\n    thinkling run a.yaml   # why\n\n```\n$ .venv/bin/thinkling chat m\n```\n"
    assert [" ".join(words) for words in commands_in(text, True)] == [
        "thinkling chat m",
        "thinkling run a.yaml",
        "make x",
    ]
    assert [" ".join(words) for words in commands_in("# Test:   make tiny   (or: thinkling run b.yaml)", False)] == [
        "make tiny",
        "thinkling run b.yaml",
    ]


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("make tiny", ["make -n tiny", "thinkling plan tiny", "python -m benchmarks.harness --table tiny.story-wall"]),
        ("make bench NAME=speed", ["make -n bench NAME=speed", "python -m benchmarks.harness --table speed"]),
        ("pip install '.[curate]'", ["pip install --dry-run --quiet '.[curate]'"]),
        (
            "thinkling sft recipes/tiny.yaml --stage sft_cold",
            ["thinkling plan tiny", "thinkling sft nano --stage sft_cold --set name=tiny"],
        ),
        ("thinkling plan recipes/tiny.yaml", ["thinkling plan recipes/tiny.yaml"]),
        (
            "torchrun --nproc-per-node 8 -m thinkling run RECIPE",
            ["torchrun --nproc-per-node 2 -m thinkling run my.yaml --set name=processes --set stages.sft.batch_size=2"],
        ),
        (
            "thinkling run my.yaml --set sources.start.path=MODEL",
            ["thinkling run my.yaml --set sources.start.path=models/mine"],
        ),
        ("python -m experiments rl --seeds 0-2", ["python -m experiments rl --seeds 0-2 --help"]),
        ("thinkling init curate --data texts", ["thinkling init curate --data texts", "thinkling plan my.yaml"]),
    ],
)
def test_what_is_run_for_a_command(command: str, given: list[str]) -> None:
    assert [shlex.join(one) for one in instead(shlex.split(command))[0]] == given


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    assert run(["thinkling", "--version"], tmp_path) == ""
    assert "exit status 2" in run(["thinkling", "plan", "absent.yaml"], tmp_path)
    assert "no option --hours" in run(
        ["python", "-m", "benchmarks.speed.precision", "--rounds", "3", "--hours", "--help"], tmp_path
    )
