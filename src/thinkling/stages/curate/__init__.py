"""Raw sources → documents in two quality grades, deduplicated and decontaminated against held-out problems."""
