"""Sampling from a model, with tools, and scoring its samples."""
