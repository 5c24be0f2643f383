"""What must come out equal: resumed runs, data order, transformers' numbers, verdicts."""
