"""Containment of untrusted code."""
