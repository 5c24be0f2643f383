"""Finds, reads and compares answers to mathematical problems, exactly where their parts are literal numbers."""
