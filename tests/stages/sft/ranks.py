"""The stage as a process of its own (`python -m tests.stages.sft.ranks JOB`), for tests that start several under
torchrun's environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.stages.own import OwnSource
from thinkling.data.artifact import Artifact, write_json
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.sft import stage
from thinkling.stages.sft.config import SftConfig


def main(job: dict) -> None:
    sources = bound({"own": OwnSource(type="own", n=job["n"])})
    ctx = StageContext("sft", Path(job["directory"]), {"model": Artifact(Path(job["model"]), {})}, 3, sources=sources)
    stage.run(SftConfig.model_validate(job["config"]), ctx)
    if os.environ["RANK"] == "0":
        write_json(Path(job["out"]), ctx.counts)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
