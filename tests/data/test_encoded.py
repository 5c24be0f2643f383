"""Encoded conversations: what is read is what was written, and nothing half written is taken for whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.encoded_chats import encoded, items
from thinkling.data.encoded import EncodedConversations, EncodedWriter, Group, damage, is_whole

conversation = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(conversation, max_size=6), min_size=1, max_size=4))
def test_reads_what_was_written(groups: list[list[list[tuple[int, bool]]]]) -> None:
    written = {
        f"g{i}": [(np.array([t for t, _ in c]), np.array([m for _, m in c], dtype=bool)) for c in group]
        for i, group in enumerate(groups)
    }
    flat = [c for group in written.values() for c in group]
    with tempfile.TemporaryDirectory() as folder:
        read = encoded(Path(folder) / "encoded", written)
        assert read.n == len(flat)
        everything = np.arange(read.n)
        assert read.lengths(everything).tolist() == [len(ids) for ids, _ in flat]
        assert read.loss_tokens(everything).tolist() == [int(loss[1:].sum()) for _, loss in flat]
        for i, (ids, loss) in enumerate(flat):
            found_ids, found_loss = read.read(i)
            assert found_ids.tolist() == ids.tolist()
            assert found_loss.tolist() == loss.tolist()
        assert [(g.name, list(g.items)) for g in read.groups] == [
            (name, [j for j in range(read.n) if _group_of(j, written) == name]) for name in written
        ]
        read.close()


def _group_of(item: int, groups: dict[str, list]) -> str:
    for name, conversations in groups.items():
        if item < len(conversations):
            return name
        item -= len(conversations)
    raise AssertionError(item)


def test_info_is_kept_and_groups_may_be_empty(tmp_path: Path) -> None:
    with EncodedWriter(tmp_path / "e") as writer:
        writer.begin("none")
        writer.info = {"counts": {"ü": 1}}
    read = EncodedConversations(tmp_path / "e")
    assert (read.n, read.groups, read.info) == (0, [Group("none", 0, 0)], {"counts": {"ü": 1}})


def test_what_was_not_finished_is_not_whole(tmp_path: Path) -> None:
    def fail() -> None:
        with EncodedWriter(tmp_path / "e") as writer:
            writer.begin("g")
            writer.add(np.arange(3), np.ones(3, dtype=bool))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert not is_whole(tmp_path / "e")
    encoded(tmp_path / "e", {"g": items([3, 4])}).close()
    assert is_whole(tmp_path / "e")
    assert damage(tmp_path / "e") is None
    with (tmp_path / "e" / "tokens.bin").open("r+b") as file:
        file.truncate(8)
    assert damage(tmp_path / "e") == f"{tmp_path / 'e' / 'tokens.bin'} is corrupt"
