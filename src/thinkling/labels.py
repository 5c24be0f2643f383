"""Token labels shared by numpy batches and torch losses."""

IGNORE = -100
"""Label of a position without loss: padding, prompts, and the last token of a document."""
