"""The stages of a recipe; they meet only in artifacts."""
