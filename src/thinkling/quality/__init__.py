"""Text → 20 grades and one value: tags, features, a labeller learned from annotated examples, similarity, the split."""
