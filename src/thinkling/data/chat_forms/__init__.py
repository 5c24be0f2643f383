"""The forms in which people keep conversations, one file per form; each is read into Hugging Face chat messages."""
