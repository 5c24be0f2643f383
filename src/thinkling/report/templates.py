"""Templates of pages that are one file: everything escaped, hidden characters shown, styles inside."""

from __future__ import annotations

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thinkling.report.text import visible


def templates(more: BaseLoader | None = None) -> Environment:
    """The templates of this package, and those of `more`; all of them know `style`."""
    loader = ChoiceLoader([PackageLoader("thinkling.report", "."), *([] if more is None else [more])])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    sheets = (loader.get_source(environment, name)[0] for name in ("figures.css", "style.css"))
    environment.globals.update(style=Markup("".join(sheets)))
    return environment
