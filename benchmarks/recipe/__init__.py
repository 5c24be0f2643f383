"""What the training recipe gains: `tiny` as a whole, and stage by stage."""
