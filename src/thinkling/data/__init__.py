"""Artifacts, documents, conversations, shards, packing, mixtures."""
