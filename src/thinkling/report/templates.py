"""Templates of pages that are one file: everything escaped, hidden characters shown, styles inside."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thinkling.report.text import visible


def templates() -> Environment:
    """The room's templates; `style` is known to all of them."""
    loader = PackageLoader("thinkling.report", ".")
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
