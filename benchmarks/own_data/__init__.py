"""Measures thinkling on a user's own problems, conversations, models and tools."""
