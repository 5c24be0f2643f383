"""thinkling trains small reasoning models from raw text, with a single command."""

__version__ = "0.1.0"
