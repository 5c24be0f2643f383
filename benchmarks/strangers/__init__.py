"""Claims about what strangers' own tests and bug reports found."""
