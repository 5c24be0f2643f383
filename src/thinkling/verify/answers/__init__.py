"""Finds, parses and compares answers to mathematical problems; exact if their parts are literal numbers."""
