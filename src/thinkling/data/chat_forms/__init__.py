"""Readers for common conversation formats, one module per format. All convert records to Hugging Face messages."""
