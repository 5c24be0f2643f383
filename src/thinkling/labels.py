"""Token labels shared by numpy batches and torch losses."""

IGNORE = -100
"""Label of a position without loss: padding, prompts, a document's last token."""
