"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinkling.data.atomic import replacing


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        _ = temporary.write_text("half of tw") // 0
    assert path.read_text() == "one"
    path.with_name("file.tmp").write_text("left by a killed run, and longer")
    with replacing(path) as temporary:
        temporary.write_text("two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
