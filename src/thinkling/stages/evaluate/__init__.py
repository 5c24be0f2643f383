"""A model → avg@k on held-out problems, with intervals."""
