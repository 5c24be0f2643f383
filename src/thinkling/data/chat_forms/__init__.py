"""Readers for common conversation formats, one module per format. All readers convert records to Hugging Face
messages."""
