"""The formats in which conversations are commonly stored, one file each; all are read into Hugging Face messages."""
