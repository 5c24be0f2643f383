"""Measures what a user's own problems, conversations, models and tools go through."""
