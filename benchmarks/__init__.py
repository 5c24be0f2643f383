"""Measures the project's claims: `make bench NAME=speed` measures one topic (claims.yaml, harness.py).

Scripts are grouped in folders by topic; they share the modules in this folder.
"""
