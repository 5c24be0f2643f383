"""The decoder, its attention and losses, and reading and writing Hugging Face directories."""
