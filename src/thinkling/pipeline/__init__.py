"""Recipes and runs: loading and checking recipes, running stages, and the commands that inspect runs."""
