"""Verifiers, which return verdicts on answers."""
