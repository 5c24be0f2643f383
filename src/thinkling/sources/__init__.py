"""Where raw material comes from: one file per type of source."""
