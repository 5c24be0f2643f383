"""Conversations with reasoning → a model that answers in chat format and thinks first."""
