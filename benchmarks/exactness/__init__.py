"""Things that must be equal: resumed runs, data order, transformers' numbers, verdicts."""
