"""The final training state of a stage, stored as `state/` in its artifact so that other stages can continue from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thinkling.data.artifact import Artifact, write_json
from thinkling.errors import UserError
from thinkling.train.checkpoint import keep_state, read_state
from thinkling.train.parallel import Parallel
from thinkling.train.spikes import GUARD

DIRECTORY, FACTS = "state", "state.json"
FORMAT = 1


@dataclass(frozen=True)
class KeptState:
    """Weights and optimizer state in a directory (torch.distributed.checkpoint with its safetensors storage)."""

    directory: Path
    steps: int
    """Number of completed steps."""
    facts: Mapping[str, Any]
    """Facts about the completed steps, recorded by the stage that stored the state. For pretrain, they are the phases,
    the seed of the data order, and the digest of the tokens."""

    def load(self, tensors: dict[str, Tensor], parallel: Parallel) -> None:
        """Reads the state into `tensors`, in place. The recent steps of a spike guard are read only if both stages have
        a guard with the same window. Raises UserError if the state belongs to a different model or optimizer."""
        read_state(self.directory, tensors, parallel, optional=GUARD)


def read_kept(artifact: Artifact) -> KeptState:
    """Reads the state in a stage's artifact.

    Raises UserError if the artifact contains no state, or if the format of the state is not supported.
    """
    directory = artifact.file(DIRECTORY)
    found = json.loads(artifact.file(f"{DIRECTORY}/{FACTS}").read_text(encoding="utf-8"))
    if found["format"] != FORMAT:
        raise UserError(
            f"{directory}: has state format {found['format']}, but this version of thinkling reads format {FORMAT}; "
            "rerun the stage that wrote it"
        )
    return KeptState(directory, found["steps"], found["facts"])


def write_kept(
    directory: Path, steps: int, facts: Mapping[str, Any], tensors: dict[str, Tensor], parallel: Parallel
) -> None:
    """Writes `state/` to a stage's directory. Must be called on all ranks. `facts` must contain only JSON values."""
    keep_state(directory / DIRECTORY, tensors, parallel)
    if parallel.rank == 0:
        write_json(directory / DIRECTORY / FACTS, {"format": FORMAT, "steps": steps, "facts": facts})
