"""What contains untrusted code."""
