"""`thinkling explain`: the history of a document, a problem and a conversation, and what it refuses."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.pipeline.small_run import N_DOCUMENTS, Writer, curate, documents, model, rollout, tokenize, write_run
from thinkling.cli import app
from thinkling.data.chat_template import OURS
from thinkling.data.shards import open_sources
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.generate.rollouts import write_rollouts
from thinkling.pipeline.explain import explain
from thinkling.quality.value import COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mine").run


def explained(run: Path, wanted: str, whole: bool = False, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    explain(run, wanted, whole, console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_document_from_curate_to_pretrain(run: Path) -> None:
    text = explained(run, "pages/5")
    assert re.findall(r"^(\w+)  \w+-[0-9a-f]{8}$", text, re.MULTILINE) == ["curate", "tokenize", "pretrain"]
    assert "kept as hq · source pages" in text
    assert "similarity 0.25" in text
    assert "hq-pages: 2.50 epochs · 900 tokens, 4 rows" in text


def test_the_terms_add_up_to_the_value(run: Path) -> None:
    text = flat(explained(run, "pages/3"))
    value, parts = re.search(r"value (-?[\d.]+) = (.+?) grades", text).groups()  # type: ignore[union-attr]
    terms = [float(n) for n in re.findall(r"[-+]?\d+\.\d+", parts)]
    assert float(value) == pytest.approx(documents()[3]["value"], abs=0.006)
    assert sum(terms) == pytest.approx(float(value), abs=0.005 * len(COLUMNS))
    assert float(parts.split()[0]) == pytest.approx(model().intercept, abs=0.006)
    assert all(f"{name} 2" in text for name in ("correctness", "depth", "length"))


def test_the_copies_of_a_document_are_named(run: Path) -> None:
    assert "2 rejected as its duplicates: pages/copy, pages/near" in flat(explained(run, "pages/3"))
    assert "rejected as duplicates" not in explained(run, "pages/2")


def test_a_rejected_document_has_its_reason_and_nothing_later(run: Path) -> None:
    text = explained(run, "pages/near")
    assert "rejected: near duplicate · of pages/3 · source pages" in text
    assert "tokenize" not in text


def test_the_labellers_examples_are_named(run: Path) -> None:
    assert "used to train the labeller · also with artificial damage: typing 30%" in explained(run, "pages/1")


def test_the_tokens_are_those_that_tokenize_wrote_for_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    curate(writer)
    validation = tokenize(writer)
    assert 0 < len(validation) < N_DOCUMENTS
    (folder,) = writer.run.glob("tokenize-*")
    written = {part: open_sources(folder / part) for part in ("shards", "validation")}
    for number, row in enumerate(documents()):
        text = explained(writer.run, row["id"])
        place = re.search(r"([\d,]+) tokens · document (\d+) of (\d+) in (\w+)/(\S+)", text)
        assert place is not None, text
        tokens, at, of, part, group = place.groups()
        assert part == ("validation" if row["id"] in validation else "shards")
        source = written[part][group]
        assert (int(tokens), source.lengths[int(at) - 1], source.n_documents) == (number + 2, number + 2, int(of))


def test_a_problem_through_refine_sft_dpd_and_rl(run: Path) -> None:
    text = explained(run, "sum-7")
    assert re.findall(r"^(\w+)  \w+-[0-9a-f]{8}$", text, re.MULTILINE) == ["refine", "sft", "dpd", "rl"]
    for line in (
        "kept · job job1 on problem sum-7 · ended: met",
        "right · draft · 1 of 2 items met",
        "critique  good",
        "chain     so 7",
        "trained on · conversation job1 · source own · answers problem sum-7",
        "pair · sums · teacher leads by 1.00 · answer 7",
        "samples of the student · 0 of 1 right",
        "in the band (0.0 to 1.0, exclusive) · 2 of 4 samples right or preferred",
        "saved for one step in 10",
        "step 0 · 1 of 2 right",
        "right · sample 0 · reward 2 · maths: 7 · 3 tokens",
        "wrong · sample 1 · reward 0 · maths: 7 · 3 tokens",
        "step 10 · 2 of 2 right · rewards are equal, so the advantages are zero",
        "evaluated after step 10: held · 0 of 1 right",
        "timeout · sample 0 · maths: 7",
    ):
        assert line in flat(text) or line in text, line
    assert text.count("What is 3 + 4?") == 5, "each question once per stage, and in each conversation"


def test_a_problem_that_was_left_out_has_its_reasons(run: Path) -> None:
    text = explained(run, "sum-8")
    assert "rejected: no_gain · job job2 on problem sum-8 · ended: no_gain" in text
    assert "no pair: teacher_not_right" in text
    assert "outside the band: too_hard · 0 of 4 samples right or preferred" in flat(text)
    assert "no pair: student_not_wrong" in explained(run, "sum-9")
    assert "outside the band: undecided" in explained(run, "sum-9")


def test_a_reward_that_is_not_the_verdict_alone_is_not_made_up(tmp_path: Path) -> None:
    from thinkling.pipeline.history_samples import reward

    row = {"outcome": "right"}
    assert reward(row, {"verdict": 0.5}) == 0.5
    assert reward(row, {"verdict": 1.0, "preference": 1.0}) is None
    assert reward({"outcome": "timeout"}, {"verdict": 1.0}) is None


def test_conversations_are_used_left_out_or_kept_for_validation(run: Path) -> None:
    used = explained(run, "chat-1")
    assert "trained on · conversation chat-1 · source own · 40 tokens, 12 with loss" in used
    assert "thinking  three and four" in used
    assert 'call (no loss) add {"a": 3}' in used
    long = explained(run, "chat-2")
    assert "not trained on; the reason is below" in long
    assert "rejected: longer than sequence_length · 1,234 tokens · conversations.parquet of source own" in flat(long)
    assert "kept for validation · conversation chat-3" in explained(run, "chat-3")


def test_a_record_that_a_source_rejected_is_found_by_id_and_by_line(run: Path) -> None:
    for wanted in ("chat-4", "data/chats.jsonl:4", "chats.jsonl:4"):
        text = flat(explained(run, wanted))
        assert "rejected: no messages · a key is missing · data/chats.jsonl:4 of source own" in text
        assert '{"id": "chat-4", "x": 1}' in text


def test_an_evaluated_problem_with_verdicts_answers_and_grades(run: Path) -> None:
    text = explained(run, "held-1")
    assert "task set sums · 1 of 2 right" in text
    assert "right · sample 0 · grade 0.75 · maths: 7 · 3 tokens" in text
    assert "wrong · sample 1 · grade 0.75 · length: cut off by max_new_tokens · 3 tokens" in text


def test_texts_are_clipped_with_their_length_or_whole(run: Path) -> None:
    clipped, whole = explained(run, "pages/5"), explained(run, "pages/5", whole=True)
    assert f"… {len(documents()[5]['text']):,} characters" in clipped
    assert clipped.count("word") < 20
    assert whole.count("word") == 200


def test_what_steers_a_terminal_is_not_printed(run: Path) -> None:
    for wanted in ("pages/5", "held-2"):
        text = explained(run, wanted, whole=True)
        assert "\ufffd[31mred\ufffd" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize("wanted", ["5", "es/5", "pages/5"])
def test_a_unique_end_is_enough(run: Path, wanted: str) -> None:
    assert explained(run, wanted).startswith("pages/5\n")


def test_several_ids_are_listed_ten_at_most(run: Path) -> None:
    with pytest.raises(
        UserError, match=r"^pages: 12 ids begin or end with this text: pages/0, .* and 2 more; specify a full id$"
    ):
        explained(run, "pages")


def test_an_unknown_id_names_the_closest_and_the_kinds(run: Path) -> None:
    with pytest.raises(UserError) as caught:
        explained(run, "sum-77")
    text = str(caught.value)
    assert "the closest ids are sum-7" in text
    assert "documents (such as pages/" in text
    assert "problems (such as sum-7)" in text
    assert "conversations (such as job1)" in text
    assert "\n" not in text
    result = CliRunner().invoke(app, ["explain", "mine", "nobody", "--runs", str(run.parent)])
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match="ID: empty"):
        explained(run, "")


def test_the_command_prints_it(run: Path) -> None:
    result = CliRunner().invoke(app, ["explain", "mine", "chat-1", "--text", "--runs", str(run.parent)])
    assert result.exit_code == 0
    assert "trained on" in result.stdout


def test_a_run_that_has_not_finished(tmp_path: Path) -> None:
    """Finished stages are explained, and what is whole in the one that is running; a file being written is not read."""
    writer = Writer(tmp_path / "run")
    curate(writer)
    rl = writer.partial("rl")
    (rl / "rollouts/00000").mkdir(parents=True)
    write_rollouts(rl / "rollouts/00000/00000.parquet", [rollout("sum-7"), rollout("sum-7", 1, "right")])
    (rl / "band.parquet.tmp").write_bytes(b"half")
    (rl / "rejected.jsonl").write_text('{"source": "own", "where"')
    text = explained(writer.run, "sum-7")
    assert "step 0 · 1 of 2 right" in text
    assert "reward" not in text, "the stage's settings are not known before it has finished"
    assert f"{rl.name}: unfinished; the stage is still running or was stopped" in text
    assert "kept as hq" in explained(writer.run, "pages/5")


def test_pass_rates_that_are_being_measured(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    chunks = writer.partial("rl") / "band" / "own"
    chunks.mkdir(parents=True)
    write_rollouts(chunks / "00000.parquet", [rollout("sum-7")])
    assert "pass rates of own · 0 of 1 right" in explained(writer.run, "sum-7")


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    ledger = writer.partial("sft") / "rejected.jsonl"
    ledger.write_text("nothing\n")
    with pytest.raises(UserError, match=r"rejected\.jsonl:1: invalid JSON; restore the file, or remove it"):
        explained(writer.run, "chat-1")


def test_of_several_artifacts_of_a_stage_the_newest_counts(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    for answer in ("old", "new"):
        with writer.stage("sft", {"kind": "sft"}) as folder:
            from tests.pipeline.small_run import conversation
            from thinkling.data.conversations import write_conversations

            write_conversations(folder / "conversations.parquet", [conversation("chat-1", answer)])
    text = explained(writer.run, "chat-1")
    assert "assistant new" in text
    assert "old" not in text


def test_a_completion_is_read_with_the_models_own_template(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run")
    tokenizer = train_bpe(["why so? it is 7"] * 50, 270, chat_template=OURS.source)
    ids = tokenizer.encode("<think>\nwhy so?\n</think>\n\nit is 7<|im_end|>", markup=True).tolist()
    with writer.stage("rl", {"kind": "rl"}) as folder:
        (folder / "model").mkdir()
        tokenizer.save(folder / "model")
        (folder / "rollouts/00000").mkdir(parents=True)
        write_rollouts(folder / "rollouts/00000/00000.parquet", [rollout("sum-7", tokens=ids)])
    text = explained(writer.run, "sum-7")
    assert "thinking  why so?\n" in text
    assert "answer    it is 7\n" in text


def test_only_the_wanted_columns_and_row_groups_are_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, set[str]]] = []
    whole = pq.ParquetFile.read_row_group

    def noted(self: pq.ParquetFile, i: int, columns: list[str] | None = None, **more: Any) -> object:
        if "markup" in self.schema_arrow.names:
            read.append((i, set(columns or self.schema_arrow.names)))
        return whole(self, i, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    explained(run, "pages/5")
    assert {group for group, columns in read if "text" in columns} == {1}
    assert {group for group, _ in read} == {0, 1, 2}
