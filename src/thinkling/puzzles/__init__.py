"""Puzzles that a model of a few hundred thousand parameters can learn in minutes: the demo and the test bed."""
