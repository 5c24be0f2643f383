"""Intermediate results of curate, kept in the run so that changing a budget, minimum or weight repeats no earlier work.

`pool`: documents after admission, deduplication and decontamination. `grades`: findings of the annotator, the labeller
and the similarity search. Only the split is recomputed. The name of a part contains a digest of everything it depends
on; its files are digested and verified before reuse.
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
"""Increased by hand whenever the same configuration produces a part with different contents."""
WORK = "work"
"""Scratch directory inside the stage's own; removed before the stage ends."""
SPLIT = frozenset({"hq_tokens", "mq_tokens", "minimum", "weights", "penalty", "bytes_per_token"})
"""Fields of `grading` that affect neither part."""


def part(ctx: StageContext, name: str, key: Any, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """The directory of a part, and whether it already existed. If not, `make` fills it; it is created atomically.

    Raises UserError if one of its files was changed.
    """
    root = (ctx.kept or ctx.directory / WORK) / PARTS
    final = root / f"{ctx.name}-{name}-{hash_of(key)[:16]}"
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


def pool_key(config: CurateConfig, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the pool depends on."""
    raw = {name: digest for name, digest in resolved.get("raw", {}).items() if name != "grading.labeller"}
    stage = config.model_dump(mode="json", exclude={"grading"})
    return {**resolved, "stage": stage, "raw": raw, "version": VERSION}


def grades_key(config: CurateConfig, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the grades depend on."""
    assert config.grading is not None
    grading = config.grading.model_dump(mode="json", exclude=set(SPLIT))
    labeller = resolved.get("raw", {}).get("grading.labeller")
    return {"pool": pool_key(config, resolved), "grading": grading, "labeller": labeller}
