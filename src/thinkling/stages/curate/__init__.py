"""Raw sources → documents of two grades of quality, deduplicated and clean of held-out problems."""
