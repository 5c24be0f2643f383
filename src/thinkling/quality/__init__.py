"""Text → 20 grades and one value: tags, features, a labeller trained on annotated examples, similarity, the split."""
