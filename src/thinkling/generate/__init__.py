"""Sampling from a model, with tools, and scoring what comes out."""
