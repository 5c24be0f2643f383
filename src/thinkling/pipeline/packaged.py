"""The recipes in the thinkling package, which can be used by name from any folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from thinkling.errors import UserError
from thinkling.pipeline.mistakes import nearest

FOLDER = "recipes"
"""Name of the folder in the package. In the repository, this folder is a link to the folder of the same name at the
root."""


def packaged() -> dict[str, Path]:
    """Map the name of each packaged recipe to its file."""
    folder = Path(str(files("thinkling"))) / FOLDER
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(given: Path) -> Path:
    """Return the file `given` if it exists, and the packaged recipe of that name otherwise.

    Raises UserError, which lists the packaged recipes, if neither exists.
    """
    if given.is_file():
        return given
    known = packaged()
    if given.name == str(given) and given.name.removesuffix(".yaml") in known:
        return known[given.name.removesuffix(".yaml")]
    if given.is_dir():
        raise UserError(f"{given}: it is a directory; specify a recipe file or one of {', '.join(known)}")
    raise UserError(
        f"{given}: no such file{nearest(str(given), known)}; the packaged recipes are {', '.join(known)}; "
        "`thinkling init sft` writes a recipe for your model and data"
    )
