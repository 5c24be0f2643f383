"""Verifiers: verdicts on answers."""
