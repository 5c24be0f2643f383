"""Sources of training and evaluation data, one module per source type."""
