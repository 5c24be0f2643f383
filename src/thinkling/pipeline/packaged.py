"""The recipes that come with thinkling, found by their names from any folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from thinkling.errors import UserError
from thinkling.pipeline.mistakes import nearest

FOLDER = "recipes"
"""In the package; in the repository a link to the folder of the same name at its root."""


def packaged() -> dict[str, Path]:
    """Name → file of the recipes that come with thinkling."""
    folder = Path(str(files("thinkling"))) / FOLDER
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(given: Path) -> Path:
    """The file of a recipe: the user's own if there is one, else the packaged recipe of that name.

    Raises UserError, with the names that there are, if it is neither.
    """
    if given.is_file():
        return given
    known = packaged()
    if given.name == str(given) and given.name.removesuffix(".yaml") in known:
        return known[given.name.removesuffix(".yaml")]
    if given.is_dir():
        raise UserError(f"{given}: a directory; give a recipe's file, or one of {', '.join(known)}")
    raise UserError(
        f"{given}: no such file{nearest(str(given), known)}; recipes that come with thinkling: {', '.join(known)}; "
        "`thinkling init sft` writes one for your model and data"
    )
