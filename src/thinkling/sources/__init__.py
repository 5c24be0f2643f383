"""Sources of raw material: one file per source type."""
