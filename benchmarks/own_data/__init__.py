"""A user's own conversations, problems and models: read in every form, counted, and trained on."""
