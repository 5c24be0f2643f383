"""What the training recipe is worth: `tiny` as a whole, and its stages one by one."""
