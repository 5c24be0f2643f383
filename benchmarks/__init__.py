"""Measurements of the project's claims: `make bench NAME=speed` runs those of a topic (claims.yaml, harness.py).

Scripts are grouped in folders by what they measure; the modules here are shared by them.
"""
