"""Puzzles that a model of a few hundred thousand parameters learns in minutes: the demo, and the test bed."""
