"""thinkling trains small thinking models, from raw text to a reasoning model, with one command."""

__version__ = "0.1.0"
