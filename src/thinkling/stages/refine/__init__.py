"""Drafts → checklist → critique → revision, round after round, then a chain of thought for the refined solution."""
