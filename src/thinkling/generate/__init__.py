"""Sampling from models, with or without tools, and scoring of the samples."""
