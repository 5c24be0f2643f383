"""Claims based on strangers' tests and bug reports."""
