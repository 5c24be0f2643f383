"""Quality grading of texts: 20 tags, the labeller that grades them, similarity to seeds, and the quality value."""
