"""Intermediate results of curate, called parts. They are stored in the run and reused if only a budget, minimum or
weight of the split changes.

The part `pool` contains the documents after admission, deduplication and decontamination. The part `grades` contains
the results of the annotator, the labeller and the similarity search. The split into HQ, MQ and rejected documents is
always recomputed. The name of a part contains a digest of everything on which the part depends. The files of a part are
digested too, and verified before they are reused.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thinkling.data.artifact import MANIFEST, finish, hash_of, read_manifest, verify
from thinkling.stages.base import PARTS, StageContext
from thinkling.stages.curate.config import CurateConfig

VERSION = 1
"""Version of the parts. Increased by hand whenever the same configuration starts to produce a part with different
contents."""
WORK = "work"
"""Scratch directory inside the stage's directory; removed before the stage ends."""
SPLIT = frozenset({"hq_tokens", "mq_tokens", "minimum", "weights", "penalty", "bytes_per_token"})
"""Fields of `grading` that affect only the split. A change of these fields leaves both parts valid."""


def part(ctx: StageContext, name: str, key: Any, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """Returns the directory of a part, and whether the part already existed. If it did not, `make` writes its files,
    and the directory is created atomically.

    Raises UserError if a file of an existing part was changed.
    """
    final = part_path(ctx.kept or ctx.directory / WORK, ctx.name, name, key)
    if (final / MANIFEST).exists():
        verify(final, read_manifest(final))
        return final, True
    partial = final.with_name(final.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    make(partial)
    finish(partial, final, {"kind": "part", "stage": ctx.name, "part": name}, {})
    return final, False


def part_path(root: Path, stage: str, name: str, key: Any) -> Path:
    """Returns the directory of a stage's part; `root` is the directory of the run."""
    return root / PARTS / f"{stage}-{name}-{hash_of(key)[:16]}"


def pool_key(config: CurateConfig, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns everything on which the pool depends."""
    raw = {name: digest for name, digest in resolved.get("raw", {}).items() if name != "grading.labeller"}
    stage = config.model_dump(mode="json", exclude={"grading"})
    return {**resolved, "stage": stage, "raw": raw, "version": VERSION}


def grades_key(config: CurateConfig, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns everything on which the grades depend."""
    assert config.grading is not None
    grading = config.grading.model_dump(mode="json", exclude=set(SPLIT))
    labeller = resolved.get("raw", {}).get("grading.labeller")
    return {"pool": pool_key(config, resolved), "grading": grading, "labeller": labeller}
