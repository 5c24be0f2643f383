"""Drafts → checklist → critique → revision for several rounds, then a chain of thought for the refined solution."""
