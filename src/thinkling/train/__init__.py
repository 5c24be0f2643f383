"""Trainer, optimizer, checkpoints and parallelism, for any objective."""
