"""Measurements of the project's claims; `make bench NAME=A9` runs those of one number (claims.yaml, harness.py)."""
