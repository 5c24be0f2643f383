"""Rows, epochs and learning rate of sft."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.artifact import Artifact
from thinkling.data.chat_template import OURS
from thinkling.data.conversations import Conversation, read_conversations, write_conversations
from thinkling.data.tokenizer import train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import save_pretrained
from thinkling.puzzles import refinement
from thinkling.puzzles.sources import PuzzleConversationsSource, PuzzlesSource
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.stage import given_conversations, make_conversations, pack_epochs, run


def config(**fields: object) -> SftConfig:
    return SftConfig.model_validate(
        {
            "kind": "sft", "examples": {"source": "p", "n_examples": 3}, "epochs": 1, "sequence_length": 16,
            "batch_size": 1, "optimizer": {"lr": 1.0},
        }
        | fields
    )  # fmt: skip


PUZZLES = PuzzlesSource(type="puzzles", families={"sort": {}, "sum": {}, "calc": {}})
ROLES = PuzzleConversationsSource(
    type="puzzle_conversations", puzzles="p", roles={"checklist": 1, "evaluate": 1, "revise": 1, "chain": 1}
)


def context(directory: Path, **inputs: Path) -> StageContext:
    given = {role: Artifact(path, {}) for role, path in inputs.items()}
    return StageContext("sft", directory, given, 1, sources=bound({"p": PUZZLES, "r": ROLES}))


def items(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.full(3 + i % 5, i, dtype=np.int32), np.arange(3 + i % 5) >= 2) for i in range(n)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0.1, 3.0), st.integers(0, 9))
def test_every_conversation_once_an_epoch(n: int, epochs: float, seed: int) -> None:
    packed = pack_epochs(items(n), epochs, 16, seed, pad_id=0)
    seen = []
    for tokens, lengths in zip(packed.tokens_BT, packed.lengths, strict=True):
        start = 0
        for length in lengths:
            assert len(set(tokens[start : start + length])) == 1
            seen.append(int(tokens[start]))
            start += length
    counts = np.bincount(seen, minlength=n)
    assert counts.min() >= int(epochs)
    assert counts.max() <= int(np.ceil(epochs))


def test_loss_falls_on_masked_tokens_alone() -> None:
    packed = pack_epochs(items(1), 1, 16, 0, 0)
    assert packed.labels_BT[0, :3].tolist() == [-100, 0, -100]


def test_learning_rate_warms_up_holds_and_falls() -> None:
    rate = config(warmup_steps=2, decay_fraction=0.5, final_lr_fraction=0.1).schedule(10)
    values = [rate(step) for step in range(10)]
    assert values[0] < values[1] < 1.0
    assert values[2:5] == [1.0] * 3
    assert values[5:] == sorted(values[5:], reverse=True)
    assert values[-1] == pytest.approx(0.1 + 0.9 * 0.1)


def test_learning_rate_of_a_short_run() -> None:
    assert config(warmup_steps=5).schedule(3).total_steps == 3


def test_examples_are_one_mapping_or_a_list(tmp_path: Path) -> None:
    one = list(make_conversations(config(), context(tmp_path)))
    both = [{"source": "p", "n_examples": 3}, {"source": "p", "n_examples": 2, "families": ["calc"]}]
    listed = list(make_conversations(config(examples=both), context(tmp_path)))
    assert listed[:3] == one
    assert [c.source for c in listed[3:]] == ["p/calc"] * 2
    assert config(examples=both).source_names() == ["p"]


def test_roles_teach_one_role_a_problem(tmp_path: Path) -> None:
    wanted = {"source": "r", "n_examples": 60, "families": ["sort", "sum"]}
    made = list(make_conversations(config(examples=wanted), context(tmp_path)))
    words = [c.messages[0]["content"].partition(" ")[0] for c in made]
    assert len(words) == 60
    assert set(words) == {"list", "check", "mend", "chain"}
    lists = [c for c in made if c.messages[0]["content"].startswith("list")]
    assert all(refinement.read_checklist(c.messages[1]["content"]) for c in lists)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"families": ["mod"]}, "sources.p: it has no family 'mod'"),
        ({"source": "r"}, "family 'calc' has no roles"),
    ],
)
def test_families_that_are_not_there(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    wanted = {"source": "p", "n_examples": 3} | fields
    with pytest.raises(UserError, match=message):
        list(make_conversations(config(examples=wanted), context(tmp_path)))


def test_mistakes_in_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"inputs\.conversations"):
        config(examples=[])
    assert config(examples=[], inputs={"conversations": "refine"}).examples == []


def test_conversations_beside_examples_and_instead_of_them(tmp_path: Path) -> None:
    model, given = tmp_path / "base", tmp_path / "refine"
    given.mkdir()
    tokenizer = train_bpe(["sum A1B+5:B+5=6.6 sort calc " * 20], 270, chat_template=OURS.source)
    tokenizer.save(tmp_path / "tokenizer")
    shape = ModelConfig(
        architecture="llama", vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    save_pretrained(Decoder(shape), model, tmp_path / "tokenizer", {})
    turns = [{"role": "user", "content": "sum A1B+5"}, {"role": "assistant", "content": "6", "reasoning_content": "6"}]
    refined = [Conversation(f"job{i}", turns, "p/sum", f"problem{i}") for i in range(3)]
    write_conversations(given / "conversations.parquet", refined)
    assert given_conversations(context(tmp_path, conversations=given)) == refined
    assert given_conversations(context(tmp_path)) == []
    for name, examples, n in (("beside", {"source": "p", "n_examples": 6}, 6), ("instead", [], 0)):
        ctx = context(tmp_path / name, model=model, conversations=given)
        ctx.directory.mkdir()
        wanted = config(examples=examples, inputs={"conversations": "x"}, sequence_length=64, epochs=2, max_steps=2)
        run(wanted, ctx)
        counts = ctx.counts
        assert (counts["from_examples"], counts["from_conversations"]) == (n, 3)
        assert counts["conversations"] == n + 3 == counts["kept"] + counts["too_long"]
        assert counts["steps"] == 2
        assert counts["rows_left_over"] > 0
        assert list(read_conversations(ctx.directory / "conversations.parquet"))[n:] == refined
