"""Trainer, optimizer, checkpoints, parallelism: knows only an objective."""
