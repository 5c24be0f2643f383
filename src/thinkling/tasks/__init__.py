"""Checkable problems, and the tools that they may call."""
