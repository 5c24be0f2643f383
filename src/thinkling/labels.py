"""Labels of tokens, as numpy batches and torch losses share them."""

IGNORE = -100
"""Label of a position without a loss: padding, prompts, a document's last token."""
