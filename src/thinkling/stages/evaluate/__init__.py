"""A model → avg@k on held-out problems, with confidence intervals."""
