"""Extraction, parsing and comparison of answers to mathematical problems. Literal numbers are compared exactly."""
