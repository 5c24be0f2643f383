"""The decoder, its attention, its loss, and Hugging Face directories in and out."""
