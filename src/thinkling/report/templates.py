"""Templates of self-contained pages: all values are escaped, hidden characters are made visible, and styles are
inlined."""

from __future__ import annotations

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thinkling.report.text import visible


def templates(more: BaseLoader | None = None) -> Environment:
    """Return an environment with the templates of this package and of the loader `more`. The variable `style` is
    available in all templates."""
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
