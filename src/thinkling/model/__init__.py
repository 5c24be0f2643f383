"""The decoder, its attention and losses, and the loading and saving of Hugging Face directories."""
